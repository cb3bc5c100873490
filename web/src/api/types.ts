/** The wire's types under short names. `schema.d.ts` is generated from the server's own types. */
import type { components } from './schema'

type S = components['schemas']

export type Abilities = S['AbilityInfo']
export type ColumnInfo = S['ColumnInfo']
export type ModelInfo = S['ModelResponse']
export type GalleryItem = S['GalleryItem']
export type NodeInfo = S['NodeInfo']
export type NodeSaid = Partial<S['NodeRequest']>
export type SessionInfo = S['SessionInfo']
export type StorageInfo = S['StorageInfo']
export type Session = S['SessionResponse']
export type TraceInfo = S['TraceResponse']
export type SpecialToken = S['SpecialToken']
export type Message = S['Message']
export type Settings = Required<S['Settings']>
export type GenerateRequest = Omit<S['GenerateRequest'], 'settings'> & { settings: Settings }
export type ForkRequest = Omit<S['ForkRequest'], 'settings'> & { settings: Settings }
export type ScoreRequest = S['ScoreRequest']
export type StartEvent = S['StartEvent']
export type StepEvent = S['StepEvent']
export type ProgressEvent = S['ProgressEvent']
export type EndEvent = S['EndEvent']
export type ErrorEvent = S['ErrorEvent']
export type CommittedEvent = S['CommittedEvent']
export type WaitingEvent = S['WaitingEvent']
export type StreamMessage = S['StreamMessage']
export type StreamEvent = StreamMessage['event']
export type ExplainMessage = S['ExplainMessage']
export type PatchMessage = S['PatchMessage']
export type HelloEvent = S['HelloEvent']
export type FeedEvent = S['FeedEvent']
export type JobInfo = S['JobInfo']
export type ModelState = S['ModelState']
export type ErrorBody = S['ErrorResponse']

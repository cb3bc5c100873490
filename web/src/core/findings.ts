/** Findings of a text by its tokens. A finding is analyser-detected: it says that a rule matched. */
import type { Finding } from '../api/evidence'

export type Severity = Finding['severity']

/** Worst first. */
export const SEVERITIES: readonly Severity[] = ['high', 'medium', 'low']
/** The name under which the code is coloured by findings: not a column of the trace. */
export const FINDING = 'finding'

/** Token -> the worst severity of the findings that hold it. */
export function marksOf(findings: readonly Finding[]): Map<number, Severity> {
  const out = new Map<number, Severity>()
  for (const f of findings) {
    if (!f.tokens) continue
    for (let t = f.tokens[0]; t < f.tokens[1]; t++) {
      const known = out.get(t)
      if (!known || SEVERITIES.indexOf(f.severity) < SEVERITIES.indexOf(known)) out.set(t, f.severity)
    }
  }
  return out
}

/** Those that hold token t, worst first. */
export function findingsAt(findings: readonly Finding[], t: number): Finding[] {
  return findings
    .filter((f) => f.tokens && f.tokens[0] <= t && t < f.tokens[1])
    .sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || a.start - b.start)
}

/** The first token of the next finding after token t (before it, where step is -1); round the ends. */
export function nextFinding(findings: readonly Finding[], t: number | null, step: 1 | -1): number | null {
  const starts = [...new Set(findings.flatMap((f) => (f.tokens ? [f.tokens[0]] : [])))].sort((a, b) => a - b)
  if (starts.length === 0) return null
  if (step > 0) return starts.find((s) => s > (t ?? -1)) ?? starts[0]
  return starts.findLast((s) => s < (t ?? Infinity)) ?? starts[starts.length - 1]
}

/** How many there are of each severity, worst first; none is left out. */
export function tally(findings: readonly Finding[]): { severity: Severity; count: number }[] {
  return SEVERITIES.map((severity) => ({
    severity,
    count: findings.filter((f) => f.severity === severity).length,
  }))
}

/** CWE-78, or nothing where none fits. */
export const weakness = (f: Pick<Finding, 'cwe'>): string => (f.cwe > 0 ? `CWE-${f.cwe}` : '')

/** One finding among those of its text. */
export const findingKey = (f: Pick<Finding, 'rule' | 'start'>): string => `${f.start} ${f.rule}`

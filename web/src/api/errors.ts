import type { ErrorBody } from './types'

/** The server said no, and why. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly body: ErrorBody,
  ) {
    super(body.message)
    this.name = 'ApiError'
  }

  /** Signed out: the cookie of this page is not (or no longer) good. */
  get signedOut(): boolean {
    return this.status === 401
  }
}

/** The server cannot be reached: nobody answered, or the answer broke off. */
export class Unreachable extends Error {
  constructor(cause?: unknown) {
    super('The server does not answer.', { cause })
    this.name = 'Unreachable'
  }
}

export async function errorFrom(response: Response): Promise<ApiError> {
  try {
    const body = (await response.json()) as Partial<ErrorBody>
    return new ApiError(response.status, {
      code: body.code ?? `http-${response.status}`,
      message: body.message ?? 'The server refused this.',
      field: body.field ?? null,
      fits: body.fits ?? null,
    })
  } catch {
    return new ApiError(response.status, {
      code: `http-${response.status}`,
      message: `The server answered ${response.status} without saying why.`,
      field: null,
      fits: null,
    })
  }
}

/** The errors that this client raises. All of them are `ScalerError`s. */

/** Base of all errors of this client. */
export class ScalerError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** The Python function raised, or could not be called. `message` has the exception's type and text. */
export class RemoteTaskError extends ScalerError {
  /** The exception's class: "ValueError", or with its module, as in "package.module.MyError". */
  readonly pythonType: string;
  /** The exception's text. */
  readonly pythonMessage: string;
  /** The traceback as Python prints it, with the exception's causes. */
  readonly pythonTraceback: string;

  constructor(pythonType: string, text: string, pythonTraceback: string) {
    super(text === "" ? pythonType : `${pythonType}: ${text}`);
    this.pythonType = pythonType;
    this.pythonMessage = text;
    this.pythonTraceback = pythonTraceback;
  }
}

/** The task ended without an answer of its function; `status` says how. */
export class TaskEndedError extends ScalerError {
  readonly status: TaskStatus;

  constructor(status: TaskStatus, message: string) {
    super(message === "" ? `the task ended as ${status}` : message);
    this.status = status;
  }
}

/** How a task can end without an answer of its function. The numbers are those of `ResultBatch.Status` in the schema. */
export const STATUSES = [
  "success",
  "failed",
  "canceled",
  "processorDied",
  "timedOut",
  "workerDied",
  "noWorker",
  "missingObject",
  "notRun",
  "storageFailed",
  "skipped",
  "limitExceeded",
  "unreadable",
  "retry",
  "groupLimit",
] as const;
export type TaskStatus = (typeof STATUSES)[number] | "unknown";

/** The task was cancelled: by `cancel()`, or by the cluster. */
export class CancelledError extends ScalerError {}

/** The client was closed before the task was answered, or is closed already. */
export class ClientClosedError extends ScalerError {}

/** There is no session with a scheduler: none answers, or the cluster has ended. */
export class DisconnectedError extends ScalerError {}

/** The scheduler refuses this client; the message says why. */
export class ConnectionRefusedError extends ScalerError {}

/** A value that is not plain data, or that is too large for JSON. */
export class PlainDataError extends ScalerError {}

/** More tasks are unanswered than `queueLimit` permits. Wait for `ready()`. */
export class QueueFullError extends ScalerError {}

/** The other end sends what the protocol does not permit. */
export class ProtocolError extends ScalerError {}

/** Object storage refused a large value, or did not answer. */
export class StorageError extends ScalerError {}

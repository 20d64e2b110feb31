/**
 * What a call may ask for beside its function and arguments: the records in `options` of `TaskBatch` and `GraphSubmit`.
 *
 * The limits are those of `scaler_protocol.wire.call_options`. They are held here, because a scheduler ends the session of a client
 * that sends others.
 */

/** What `submit` takes besides a function and its arguments. */
export interface SubmitOptions {
  /** Names that the task's worker must offer. */
  readonly capabilities?: readonly string[];
  /** How often the task runs again after an error, or after which errors, and when. Never by default. */
  readonly retries?: number | Retries;
  /** How long one attempt may run. */
  readonly timeoutSeconds?: number;
  /** How long after `submit` the task ends, whatever it does then. */
  readonly deadlineSeconds?: number;
  /** Tasks of higher priority go before others of this client. 0 by default. */
  readonly priority?: number;
  /** What the work is called, for people: in pages, metrics, and with output. */
  readonly label?: string;
  /** Names with values, for people. */
  readonly tags?: Readonly<Record<string, string>>;
  /** False: the task never runs twice. It is rejected where it may have begun and its worker is lost. True by default. */
  readonly idempotent?: boolean;
}

/** How often, after which errors and when a task runs again. */
export interface Retries {
  /** How often it runs again, at most. */
  readonly times: number;
  /** Names of exception classes: "ValueError", "package.module.MyError". Those derived from them count. "Exception" by default. */
  readonly on?: readonly string[];
  /** How long it waits before it runs for the second time. 0 by default. */
  readonly waitSeconds?: number;
  /** Each further wait is so many times longer. 2 by default. */
  readonly backoff?: number;
  /** But not longer than this. 60 by default. */
  readonly waitMaxSeconds?: number;
}

const LABEL_CHARACTERS_MAX = 100;
const TAGS_MAX = 20;
const TAG_NAME_CHARACTERS_MAX = 100;
const TAG_VALUE_CHARACTERS_MAX = 200;
const RETRIES_MAX = 1000;
const RETRY_EXCEPTIONS_MAX = 20;
const EXCEPTION_NAME_CHARACTERS_MAX = 200;
const SECONDS_MAX = 366 * 86400;
const BACKOFF_MAX = 1000;
const PRIORITY_MAX = 1_000_000;

const ONE_LINE = /^(?:[^\p{C}\p{Z}]| )*[^\p{C}\p{Z}](?:[^\p{C}\p{Z}]| )*$/u;

/**
 * Return the record of these options as JSON; empty where none is set.
 *
 * Throws TypeError for a value of the wrong type, and RangeError for another one that is impossible.
 */
export function encodeRecord(options: SubmitOptions): string {
  const { label, tags, retries, timeoutSeconds, deadlineSeconds, priority, idempotent } = options;
  const record: Record<string, unknown> = {};
  if (label !== undefined) {
    record["label"] = oneLine("label", label, LABEL_CHARACTERS_MAX);
  }
  if (tags !== undefined && Object.keys(tags).length > 0) {
    record["tags"] = checkedTags(tags);
  }
  const again =
    retries === undefined ? null : checkedRetries(typeof retries === "number" ? { times: retries } : retries);
  if (again !== null) {
    record["retries"] = again;
  }
  for (const [name, key, value] of [
    ["timeoutSeconds", "timeout_seconds", timeoutSeconds],
    ["deadlineSeconds", "deadline_seconds", deadlineSeconds],
  ] as const) {
    if (value !== undefined && value !== Number.POSITIVE_INFINITY) {
      record[key] = inRange(name, value, Number.MIN_VALUE, SECONDS_MAX);
    }
  }
  if (priority !== undefined && whole("priority", priority, -PRIORITY_MAX, PRIORITY_MAX) !== 0) {
    record["priority"] = priority;
  }
  if (idempotent !== undefined && typeof idempotent !== "boolean") {
    throw new TypeError(`idempotent must be true or false, not ${String(idempotent)}`);
  }
  if (idempotent === false) {
    if (again !== null) {
      throw new RangeError("retries: a task with idempotent: false never runs twice, so it cannot have any");
    }
    record["idempotent"] = false;
  }
  return Object.keys(record).length === 0 ? "" : JSON.stringify(record);
}

/** Return the `options` of a batch whose rows have these records; empty where none has any. */
export function joinRecords(rows: readonly string[]): Buffer {
  const places = new Map<string, number>();
  const numbers = rows.map((record) => {
    const place = places.get(record) ?? places.size;
    places.set(record, place);
    return place;
  });
  if (places.size === 0 || (places.size === 1 && places.has(""))) {
    return Buffer.alloc(0);
  }
  const records = [...places.keys()].map((record) => (record === "" ? "{}" : record)).join(",");
  const column = places.size === 1 ? "" : `,"rows":[${numbers.join(",")}]`;
  return Buffer.from(`{"records":[${records}]${column}}`, "utf8");
}

function checkedRetries(retries: Retries): object | null {
  const { times, on = ["Exception"], waitSeconds = 0, backoff = 2, waitMaxSeconds = 60 } = retries;
  whole("retries", times, 0, RETRIES_MAX);
  if (!Array.isArray(on) || on.length < 1 || on.length > RETRY_EXCEPTIONS_MAX) {
    throw new RangeError(`retries: "on" needs an array of 1 to ${RETRY_EXCEPTIONS_MAX} names of exception classes`);
  }
  const names = (on as readonly unknown[]).map((name) => {
    const text = oneLine("retries: the name of an exception", name, EXCEPTION_NAME_CHARACTERS_MAX - "builtins.".length);
    return text.includes(".") ? text : `builtins.${text}`;
  });
  const record = {
    times,
    on: names,
    wait_seconds: inRange("retries: waitSeconds", waitSeconds, 0, SECONDS_MAX),
    backoff: inRange("retries: backoff", backoff, 1, BACKOFF_MAX),
    wait_max_seconds: inRange("retries: waitMaxSeconds", Math.min(waitMaxSeconds, SECONDS_MAX), 0, SECONDS_MAX),
  };
  return times === 0 ? null : record;
}

function checkedTags(tags: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(tags);
  if (entries.length > TAGS_MAX) {
    throw new RangeError(`tags has ${entries.length} entries; a task can have ${TAGS_MAX} at most`);
  }
  for (const [name, value] of entries) {
    oneLine("tags: the name", name, TAG_NAME_CHARACTERS_MAX);
    if (value !== "") {
      oneLine(`tags: the value of ${JSON.stringify(name)}`, value, TAG_VALUE_CHARACTERS_MAX);
    }
  }
  return Object.fromEntries(entries.sort(([first], [second]) => (first < second ? -1 : 1)));
}

function oneLine(what: string, text: unknown, limit: number): string {
  if (typeof text !== "string") {
    throw new TypeError(`${what} must be a string, not ${String(text)}`);
  }
  if ([...text].length > limit) {
    throw new RangeError(`${what} has more than ${limit} characters`);
  }
  if (!ONE_LINE.test(text)) {
    throw new RangeError(`${what} ${JSON.stringify(text)} is not one line of printable characters`);
  }
  return text;
}

function whole(what: string, value: unknown, least: number, most: number): number {
  if (!Number.isInteger(value)) {
    throw new TypeError(`${what} must be a whole number, not ${String(value)}`);
  }
  return inRange(what, value, least, most);
}

function inRange(what: string, value: unknown, least: number, most: number): number {
  if (typeof value !== "number" || Number.isNaN(value)) {
    throw new TypeError(`${what} must be a number, not ${String(value)}`);
  }
  if (value < least || value > most) {
    const range = least === Number.MIN_VALUE ? `more than 0 and at most ${most}` : `from ${least} to ${most}`;
    throw new RangeError(`${what} must be ${range}, not ${value}`);
  }
  return value;
}

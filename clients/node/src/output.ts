/** What tasks print and log, which arrives while they run. */

import type { TaskPromise } from "./task.js";

/** A piece of what a task has printed, or one record that it has logged. */
export interface TaskOutput {
  /** Where the task wrote it. "log" is Python's `logging`. */
  readonly stream: "stdout" | "stderr" | "log";
  /** The text as it was written, which may be part of a line or several lines; of a log record the message. */
  readonly text: string;
  /** The log record, if it is one. */
  readonly record?: LogRecord;
  /** The label of the task; empty where it has none. */
  readonly label: string;
  /** What `submit` returned for the task; undefined where that has ended meanwhile. */
  readonly task: TaskPromise<unknown> | undefined;
}

/** A record of Python's `logging`. */
export interface LogRecord {
  readonly logger: string;
  /** 10 debug, 20 info, 30 warning, 40 error, 50 critical. */
  readonly level: number;
  readonly created: Date;
  readonly file: string;
  readonly line: number;
  readonly function: string;
  /** Empty where the record has none. */
  readonly traceback: string;
}

interface SentRecord {
  readonly logger: string;
  readonly level: number;
  readonly message: string;
  readonly created: number;
  readonly file: string;
  readonly line: number;
  readonly function: string;
  readonly traceback?: string;
}

const STDOUT = 1;
const LOG = 3;
const LEVELS = ["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

/** Return what one message of a task's output contains. */
export function readOutput(
  stream: number,
  data: Buffer,
  droppedBytes: number,
  task: Pick<TaskOutput, "label" | "task">,
): TaskOutput[] {
  const found: TaskOutput[] = [];
  if (droppedBytes > 0) {
    const text = `[${droppedBytes} bytes of output were dropped: the task wrote too much]\n`;
    found.push({ stream: stream === STDOUT ? "stdout" : "stderr", text, ...task });
  }
  if (stream !== LOG) {
    if (data.length > 0) {
      found.push({ stream: stream === STDOUT ? "stdout" : "stderr", text: data.toString("utf8"), ...task });
    }
    return found;
  }
  for (const line of data.toString("utf8").split("\n")) {
    const sent = readRecord(line);
    if (sent !== null) {
      const { message, created, traceback = "", ...rest } = sent;
      const { logger, level, file, line: at, function: name } = rest;
      const record = { logger, level, created: new Date(created * 1000), file, line: at, function: name, traceback };
      found.push({ stream: "log", text: message, record, ...task });
    }
  }
  return found;
}

/** Write output where the task meant it to go; log records go to the standard error. */
export function showOutput({ stream, text, record }: TaskOutput): void {
  if (record === undefined) {
    process[stream === "stdout" ? "stdout" : "stderr"].write(text);
    return;
  }
  const level = LEVELS[record.level / 10] ?? `Level ${record.level}`;
  const traceback = record.traceback === "" ? "" : `\n${record.traceback}`;
  process.stderr.write(`${level}:${record.logger}:${text}${traceback}\n`);
}

function readRecord(line: string): SentRecord | null {
  try {
    const found = JSON.parse(line) as unknown;
    return typeof found === "object" && found !== null && "message" in found ? (found as SentRecord) : null;
  } catch {
    // The last line is empty, and a record that was cut off is worth no error.
    return null;
  }
}

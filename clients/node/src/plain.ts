/**
 * Plain data: JSON with a few marks for what JSON does not have. The table is in docs/clients.md.
 *
 *     JavaScript                                            Python
 *     null, boolean, string                                 None, bool, str
 *     number: whole, up to ±(2**53 - 1)                     int
 *     other numbers, with NaN, infinities and -0            float
 *     bigint                                                int
 *     Uint8Array (Buffer)                                   bytes
 *     Date                                                  datetime with the time zone UTC
 *     array, object                                         list, dict
 *
 * Read: an int beyond ±(2**53 - 1) arrives as a bigint, bytes as a Buffer, a datetime as a Date (its microseconds are cut).
 */

import { PlainDataError } from "./errors.js";

/** Returns what is written for a promise in a value; undefined: it is not plain data. */
type WritePromise = (promise: Promise<unknown>) => unknown;

const NO_PROMISES: WritePromise = () => undefined;

/** Return the JSON of a value. Throws PlainDataError, which says where in the value something is not plain data. */
export function dumpPlain(value: unknown, writePromise: WritePromise = NO_PROMISES): string {
  try {
    return JSON.stringify(written(value, [], writePromise));
  } catch (error) {
    if (error instanceof RangeError) {
      throw new PlainDataError("it is nested too deeply, contains itself, or is too large for one text of JavaScript");
    }
    throw error;
  }
}

/** Return the value of JSON that came from Python. Throws PlainDataError. */
export function loadPlain(bytes: Uint8Array): unknown {
  return parsePlain(plainText(bytes));
}

/** Return JSON that came from Python as a text. Throws PlainDataError. */
export function plainText(bytes: Uint8Array): string {
  try {
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  } catch {
    throw new PlainDataError(`a value of ${bytes.byteLength} bytes is too large for one text of JavaScript`);
  }
}

/** Return the value of this JSON. Throws PlainDataError. */
export function parsePlain(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return text.includes('"$') ? read(value) : value;
  } catch (error) {
    if (error instanceof PlainDataError) {
      throw error;
    }
    throw new PlainDataError(`not plain data: ${(error as Error).message}`);
  }
}

function written(value: unknown, place: (string | number)[], writePromise: WritePromise): unknown {
  switch (typeof value) {
    case "boolean":
    case "string":
      return value;
    case "number":
      if (Number.isSafeInteger(value) ? !Object.is(value, -0) : Number.isFinite(value) && !Number.isInteger(value)) {
        return value;
      }
      return { $float: floatText(value) };
    case "bigint":
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER
        ? Number(value)
        : { $int: value.toString() };
    case "object":
      return value === null ? null : writtenObject(value, place, writePromise);
    default:
      throw notPlain(typeof value, place);
  }
}

function writtenObject(value: object, place: (string | number)[], writePromise: WritePromise): unknown {
  if (Array.isArray(value)) {
    return Array.from(value, (item: unknown, index) => written(item, [...place, index], writePromise));
  }
  if (value instanceof Uint8Array) {
    return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  }
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) {
      throw notPlain("an invalid Date", place);
    }
    return { $datetime: value.toISOString() };
  }
  if (value instanceof Promise) {
    const mark = writePromise(value);
    if (mark === undefined) {
      throw notPlain("a promise that is not one of this client's tasks: await it", place, "");
    }
    return mark;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    throw notPlain(`a ${value.constructor.name}`, place);
  }
  const entries = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]): [string, unknown] => [key, written(item, [...place, key], writePromise)]);
  const only = entries.length === 1 ? entries[0] : undefined;
  if (only !== undefined && only[0].startsWith("$")) {
    only[0] = `$${only[0]}`;
  }
  return Object.fromEntries(entries);
}

function floatText(value: number): string {
  if (Number.isNaN(value)) {
    return "nan";
  }
  if (!Number.isFinite(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  return Object.is(value, -0) ? "-0.0" : String(value);
}

function notPlain(what: string, place: (string | number)[], why = ", which is not plain data"): PlainDataError {
  const path = place.map((key) => `[${JSON.stringify(key)}]`).join("");
  return new PlainDataError(`${path === "" ? "it" : `value${path}`} is ${what}${why}`);
}

function read(value: unknown): unknown {
  if (typeof value !== "object" || value === null) {
    return value;
  }
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) {
      value[index] = read(value[index]);
    }
    return value as unknown;
  }
  const entries = Object.entries(value);
  const only = entries.length === 1 ? entries[0] : undefined;
  if (only === undefined || !only[0].startsWith("$")) {
    return Object.fromEntries(entries.map(([key, item]) => [key, read(item)]));
  }
  const [key, item] = only as [string, unknown];
  if (key.startsWith("$$")) {
    return { [key.slice(1)]: read(item) };
  }
  if (typeof item === "string") {
    switch (key) {
      case "$int":
        return BigInt(item);
      case "$float":
        return readFloat(item);
      case "$bytes":
        return Buffer.from(item, "base64");
      case "$datetime":
        return new Date(item);
    }
  }
  throw new PlainDataError(`not plain data: an object with the only key ${JSON.stringify(key)}`);
}

function readFloat(text: string): number {
  const signs: Record<string, number> = {
    nan: Number.NaN,
    inf: Number.POSITIVE_INFINITY,
    "-inf": Number.NEGATIVE_INFINITY,
  };
  return signs[text] ?? Number(text);
}

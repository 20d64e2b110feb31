/** Plain data as JSON. What Python makes of it is in cluster.test.ts. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { PlainDataError } from "../src/errors.js";
import { dumpPlain, loadPlain } from "../src/plain.js";

const load = (text: string) => loadPlain(Buffer.from(text));

test("values and their JSON", () => {
  const cases: [unknown, string][] = [
    [null, "null"],
    [[true, "ä\ud800", 1.5, -7], '[true,"ä\\ud800",1.5,-7]'],
    [Number.MAX_SAFE_INTEGER, "9007199254740991"],
    [2n ** 64n, '{"$int":"18446744073709551616"}'],
    [-(2n ** 53n), '{"$int":"-9007199254740992"}'],
    [Number.NaN, '{"$float":"nan"}'],
    [Number.NEGATIVE_INFINITY, '{"$float":"-inf"}'],
    [-0, '{"$float":"-0.0"}'],
    [2 ** 60, '{"$float":"1152921504606847000"}'],
    [new Date(1), '{"$datetime":"1970-01-01T00:00:00.001Z"}'],
    [Buffer.from([0, 255]), '{"$bytes":"AP8="}'],
    [{ $bytes: "own" }, '{"$$bytes":"own"}'],
    [{ $a: { $$b: 1 } }, '{"$$a":{"$$$b":1}}'],
    [{ $a: 1, b: 2 }, '{"$a":1,"b":2}'],
    [{ nested: [{ $int: [5n ** 40n] }] }, '{"nested":[{"$$int":[{"$int":"9094947017729282379150390625"}]}]}'],
  ];
  for (const [value, text] of cases) {
    assert.equal(dumpPlain(value), text);
    assert.deepEqual(load(text), value, text);
  }
});

test("a bigint that a number holds comes back as a number, undefined in an object is left out", () => {
  assert.equal(dumpPlain([5n, { a: undefined, b: 1 }]), '[5,{"b":1}]');
});

test("a key named __proto__ is a key", () => {
  const value = load('{"__proto__":{"$int":"1"},"b":1}') as Record<string, unknown>;
  assert.deepEqual(Object.keys(value), ["__proto__", "b"]);
  assert.equal(dumpPlain(value), '{"__proto__":1,"b":1}');
});

test("what is not plain data", () => {
  const cycle: unknown[] = [];
  cycle.push(cycle);
  const cases: [unknown, RegExp][] = [
    [undefined, /it is undefined/],
    [[1, undefined], /value\[1\] is undefined/],
    [{ a: [() => 1] }, /value\["a"\]\[0\] is function/],
    [new Map(), /it is a Map, which is not plain data/],
    [new Float64Array(2), /a Float64Array/],
    [new Date(Number.NaN), /an invalid Date/],
    [Symbol("a"), /symbol/],
    [cycle, /contains itself/],
  ];
  for (const [value, message] of cases) {
    assert.throws(
      () => dumpPlain(value),
      (error) => error instanceof PlainDataError && message.test(error.message),
    );
  }
});

test("JSON that is no plain data", () => {
  for (const text of ["", "{", "NaN", '{"$other":"1"}', '{"$int":5}', '{"$int":"x"}']) {
    assert.throws(() => load(text), PlainDataError, text);
  }
});

/** Tasks as arguments of tasks. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { CancelledError, Client, ClientClosedError, PlainDataError, RemoteTaskError } from "../src/index.js";
import type { TaskPromise } from "../src/index.js";

const address = process.env["SCALER_ADDRESS"] ?? "";
const FUNCTIONS = "tests.integration.functions";

describe("on a cluster", { skip: address === "" }, () => {
  let client: Client;
  before(async () => {
    client = await Client.connect(address, { name: "inputs.test" });
  });
  after(() => client.close());

  const slowly = <T = unknown>(value: unknown, seconds = 0.2) =>
    client.submit<T>(`${FUNCTIONS}:sleep_and_return`, [seconds, value]);
  const repr = (...args: unknown[]) => client.submit<string>("builtins:repr", args);

  test("a tree of sums", async () => {
    let level = Array.from({ length: 64 }, (_, index) => client.submit<number>("operator:add", [index, 0]));
    while (level.length > 1) {
      level = Array.from({ length: level.length / 2 }, (_, index) =>
        client.submit<number>("operator:add", [level[2 * index], level[2 * index + 1]]),
      );
    }
    assert.equal(await level[0], 2016);
  });

  test("inside of values, by name, and twice", async () => {
    const one = slowly(1);
    const two = slowly("two");
    const call = client.submit("builtins:dict", [], { a: [one, { b: two, $input: 0 }], c: { $input: 1 }, d: one });
    assert.deepEqual(await call, { a: [1, { b: "two", $input: 0 }], c: { $input: 1 }, d: 1 });
    assert.deepEqual(await client.submit("builtins:dict", [], { a: two, b: one, c: "new" }), {
      a: "two",
      b: 1,
      c: "new",
    });
  });

  test("a value is the same one whether it is there already or not", async () => {
    const expressions = ["1.0", "-0.0", "[1e300, 1e5, 2**60, 0.5]", "b'x'", "{'$int': '5'}", "'\\ud800'", "None"];
    expressions.push(
      "__import__('datetime').datetime(2026, 1, 2, 3, 4, 5, 678901, __import__('datetime').timezone.utc)",
    );
    for (const expression of expressions) {
      const done = client.submit("builtins:eval", [expression]);
      await done;
      const coming = client.submit("builtins:eval", [`__import__('time').sleep(0.05) or ${expression}`]);
      assert.equal(await repr(done), await repr(coming), expression);
      assert.equal(await repr(done), await client.submit("builtins:eval", [`repr(${expression})`]), expression);
    }
  });

  test("a long chain", async () => {
    let last: TaskPromise<number> = client.submit<number>("operator:add", [0, 0]);
    for (let index = 0; index < 3000; index += 1) {
      last = client.submit<number>("operator:add", [last, 1]);
    }
    assert.equal(await last, 3000);
    assert.equal(client.unansweredCount, 0);
  });

  test("large values go from worker to worker", async () => {
    const text = slowly<string>("ab".repeat(400_000));
    const upper = client.submit<string>("builtins:str.upper", [text]);
    const [length, other] = await Promise.all([
      client.submit<number>("builtins:len", [upper]),
      client.submit<string>("operator:add", [upper, text]),
    ]);
    assert.equal(length, 800_000);
    assert.equal(other, "AB".repeat(400_000) + "ab".repeat(400_000));
    // It was read, and its object deleted.
    assert.equal(await client.submit("builtins:len", [upper]), 800_000);
    assert.equal(await client.submit("builtins:len", [text]), 800_000);
  });

  test("a large argument beside a task, and a task whose arguments are large", async () => {
    const text = "x".repeat(500_000);
    const first = client.submit<string>("builtins:str.upper", [text]);
    assert.equal(await client.submit("operator:add", [first, text]), text.toUpperCase() + text);
  });

  test("a failure ends what needs it", async () => {
    const bad = client.submit(`${FUNCTIONS}:fail`, ["no such order"]);
    const behind = client.submit("operator:add", [client.submit("operator:add", [bad, 1]), 1]);
    const isIt = (error: unknown) => error instanceof RemoteTaskError && error.message === "ValueError: no such order";
    await assert.rejects(behind, isIt);
    await assert.rejects(client.submit("operator:add", [bad, 1]), isIt);
    await assert.rejects(
      client.submit("operator:add", [client.submit(`${FUNCTIONS}:fail`, ["x".repeat(400_000)]), 1]),
      (error) => error instanceof RemoteTaskError && error.pythonMessage.startsWith("xxx"),
    );
    assert.equal(client.unansweredCount, 0);
  });

  test("cancelling ends what needs it", async () => {
    const slow = slowly(1, 100);
    const behind = client.submit("operator:add", [client.submit("operator:add", [slow, 1]), 1]);
    await client.submit("operator:add", [1, 1]);
    slow.cancel();
    await assert.rejects(behind, CancelledError);
    await assert.rejects(client.submit("operator:add", [slow, 1]), CancelledError);
    // One that never left.
    const early = slowly(1, 100);
    const needs = client.submit("operator:add", [early, 1]);
    early.cancel();
    await assert.rejects(needs, CancelledError);
    const waits = client.submit("operator:add", [slowly(1, 100), 1]);
    waits.cancel();
    await assert.rejects(waits, CancelledError);
  });

  test("promises that are none of its tasks", async () => {
    assert.throws(
      () => repr(Promise.resolve(1)),
      /value\[0\]\[0\] is a promise that is not one of this client's tasks/,
    );
    const other = await Client.connect(address);
    const task = other.submit("operator:add", [1, 1]);
    assert.throws(() => repr(task), PlainDataError);
    await task;
    const left = other.submit("operator:add", [other.submit("time:sleep", [100]), 1]);
    const rejected = assert.rejects(left, ClientClosedError);
    await other.close();
    await rejected;
  });
});

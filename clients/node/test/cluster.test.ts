/** A real cluster, whose address is in SCALER_ADDRESS: tests/integration/test_node_client.py starts it. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";

import { Dealer } from "zeromq";

import { decodeHeader, encodeHeader } from "../src/capnp.js";
import {
  CancelledError,
  Client,
  ClientClosedError,
  PlainDataError,
  QueueFullError,
  RemoteTaskError,
  TaskEndedError,
} from "../src/index.js";
import { encodeEnvelope, UNSEQUENCED } from "../src/wire.js";

const address = process.env["SCALER_ADDRESS"] ?? "";

describe("a cluster", { skip: address === "" }, () => {
  let client: Client;
  before(async () => {
    client = await Client.connect(address, { name: "cluster.test" });
  });
  after(() => client.close());

  const python = <T = unknown>(expression: string) => client.submit<T>("builtins:eval", [expression]);

  test("arguments, names of arguments, results", async () => {
    assert.equal(await client.submit("operator:add", [2, 3]), 5);
    assert.deepEqual(await client.submit("builtins:dict", [], { a: [1, null], b: "ä" }), { a: [1, null], b: "ä" });
    assert.equal(await client.submit("builtins:str.upper", ["abc"]), "ABC");
    assert.equal(await client.submit("builtins:print", []), null);
  });

  test("what Python makes of values", async () => {
    const cases: [unknown, string][] = [
      [null, "None"],
      [true, "True"],
      ["\ud800", "'\\ud800'"],
      [1, "1"],
      [1.5, "1.5"],
      [-0, "-0.0"],
      [1e21, "1e+21"],
      [2 ** 53, "9007199254740992.0"],
      [Number.MAX_SAFE_INTEGER, "9007199254740991"],
      [2n ** 70n, "1180591620717411303424"],
      [5n, "5"],
      [Number.NaN, "nan"],
      [Number.POSITIVE_INFINITY, "inf"],
      [Buffer.from("hi"), "b'hi'"],
      [new Uint8Array([0, 255]), "b'\\x00\\xff'"],
      [new Date(1500), "datetime.datetime(1970, 1, 1, 0, 0, 1, 500000, tzinfo=datetime.timezone.utc)"],
      [{ $bytes: [1] }, "{'$bytes': [1]}"],
      [{ a: { b: [] } }, "{'a': {'b': []}}"],
    ];
    for (const [value, wanted] of cases) {
      assert.equal(await client.submit("builtins:repr", [value]), wanted);
    }
  });

  test("what values of Python become", async () => {
    const cases: [string, unknown][] = [
      ["2**53 - 1", Number.MAX_SAFE_INTEGER],
      ["2**53", 2n ** 53n],
      ["-2**80", -(2n ** 80n)],
      ["float('nan')", Number.NaN],
      ["[float('-inf'), -0.0, 1e300]", [Number.NEGATIVE_INFINITY, -0, 1e300]],
      ["b'\\x00a'", Buffer.from([0, 97])],
      ["bytearray(b'a')", Buffer.from("a")],
      ["(1, (2, 3))", [1, [2, 3]]],
      ["'\\ud800'", "\ud800"],
      ["{'$int': '5', }", { $int: "5" }],
      ["[1, 2**60, 3]", [1, 2n ** 60n, 3]],
      [
        "__import__('datetime').datetime(2026, 1, 2, 3, 4, 5, 6789, __import__('datetime').timezone.utc)",
        new Date("2026-01-02T03:04:05.006Z"),
      ],
      ["__import__('http').HTTPStatus.OK", 200],
      ["__import__('collections').OrderedDict(a=1)", { a: 1 }],
    ];
    for (const [expression, wanted] of cases) {
      assert.deepEqual(await python(expression), wanted, expression);
    }
  });

  test("results that are no plain data", async () => {
    const cases: [string, RegExp][] = [
      ["{1}", /it is of type set, which is not plain data; make a list of it/],
      ["[1, {'a': object()}]", /value\[1\]\['a'\] is of type object/],
      ["{1: 2}", /it has a key of type int: keys are texts/],
      ["__import__('datetime').datetime(2026, 1, 2)", /a datetime without a time zone/],
      ["__import__('datetime').date(2026, 1, 2)", /of type datetime.date.*isoformat/],
      ["__import__('decimal').Decimal(1)", /of type decimal.Decimal/],
      ["(lambda x: (x.append(x), x))([])[1]", /contains itself/],
      ["1 + 2j", /of type complex/],
    ];
    for (const [expression, message] of cases) {
      await assert.rejects(
        python(expression),
        (error) => error instanceof RemoteTaskError && message.test(error.message),
      );
    }
  });

  test("errors of the function", async () => {
    await assert.rejects(client.submit("tests.integration.functions:fail", ["no such order"]), (error) => {
      assert.ok(error instanceof RemoteTaskError);
      assert.equal(error.pythonType, "ValueError");
      assert.equal(error.pythonMessage, "no such order");
      assert.equal(error.message, "ValueError: no such order");
      assert.match(error.pythonTraceback, /functions\.py", line \d+, in fail\n[^]*ValueError: no such order/);
      return true;
    });
    await assert.rejects(client.submit("builtins:len", [1, 2]), /TypeError/);
    await assert.rejects(client.submit("builtins:exit", [3]), /SystemExit: 3/);
  });

  test("names that lead nowhere", async () => {
    const cases: [string, RegExp][] = [
      ["no_such_module:f", /ModuleNotFoundError: No module named 'no_such_module'/],
      ["operator:no_such", /AttributeError: module 'operator' has no 'no_such'/],
      ["operator:add.no_such", /AttributeError: module 'operator' has no 'add.no_such'/],
      ["math:pi", /TypeError: 'math:pi' is no function: its type is float/],
      ["not-a-module:f", /ValueError: 'not-a-module:f' does not name a function/],
    ];
    for (const [name, message] of cases) {
      await assert.rejects(client.submit(name), (error) => {
        assert.ok(error instanceof RemoteTaskError);
        assert.equal(error.pythonType, "DeserializeObjectError");
        assert.match(error.message, message);
        return true;
      });
    }
    assert.throws(() => client.submit("operator.add"), PlainDataError);
  });

  test("arguments that are no plain data are refused before anything is sent", () => {
    assert.throws(() => client.submit("operator:add", [undefined]), PlainDataError);
    assert.throws(() => client.submit("operator:add", [1], { b: new Set() }), /value\[1\]\["b"\] is a Set/);
    assert.equal(client.unansweredCount, 0);
  });

  test("ten thousand tasks", async () => {
    const tasks = Array.from({ length: 10_000 }, (_, index) => client.submit<number>("operator:neg", [index + 1]));
    const results = await Promise.all(tasks);
    assert.deepEqual(
      results,
      results.map((_, index) => -index - 1),
    );
  });

  test("a map is in order and bounded, also over an endless generator", async () => {
    const squares = await client.map<number>("tests.integration.functions:square", [1, 2, 3, 4], { inFlight: 2 });
    assert.deepEqual(squares, [1, 4, 9, 16]);
    let made = 0;
    async function* numbers() {
      for (;;) {
        yield await Promise.resolve((made += 1));
      }
    }
    const first: number[] = [];
    for await (const result of client.imap<number>("operator:neg", numbers(), { inFlight: 10 })) {
      first.push(result);
      if (first.length === 50) {
        break;
      }
    }
    assert.deepEqual(first.slice(0, 3), [-1, -2, -3]);
    assert.ok(made <= 61, String(made));
    await assert.rejects(client.map("operator:truediv", [1]), RemoteTaskError);
    assert.equal(client.unansweredCount, 0);
  });

  test("large arguments and results", async () => {
    const text = "ä".repeat(3_000_000);
    const [length, longer] = await Promise.all([
      client.submit("builtins:len", [text]),
      client.submit<string>("operator:mul", ["ab", 4_000_000]),
    ]);
    assert.equal(length, text.length);
    assert.equal(longer.length, 8_000_000);
    const bytes = randomBytes(2_000_000);
    assert.deepEqual(await client.submit("builtins:bytes", [bytes]), bytes);
    const many = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        client.submit<string>("operator:mul", [String(index % 10), 300_000 + index]),
      ),
    );
    many.forEach((result, index) => assert.equal(result, String(index % 10).repeat(300_000 + index)));
    await assert.rejects(client.submit("tests.integration.functions:fail", ["x".repeat(400_000)]), RemoteTaskError);
  });

  test("cancelling tasks that run, wait, or are answered", async () => {
    const tasks = Array.from({ length: 8 }, () => client.submit("time:sleep", [100]));
    const waiting = tasks.map((task) => assert.rejects(task, CancelledError));
    client.submit("operator:add", [1, 1], {}, { capabilities: [] }).cancel();
    tasks.forEach((task) => task.cancel());
    await Promise.all(waiting);
    // The workers are free again.
    const last = client.submit("operator:add", [1, 2]);
    assert.equal(await last, 3);
    last.cancel();
    assert.equal(await last, 3);
    assert.equal(client.unansweredCount, 0);
  });

  test("a queue that is full", async () => {
    const small = await Client.connect(address, { queueLimit: 10 });
    const tasks = Array.from({ length: 10 }, (_, index) => small.submit("operator:neg", [index]));
    assert.throws(() => small.submit("operator:neg", [1]), QueueFullError);
    await small.ready();
    tasks.push(small.submit("operator:neg", [10]));
    assert.deepEqual((await Promise.all(tasks)).length, 11);
    assert.equal((await small.map("operator:neg", Array(100).fill(1))).length, 100);
    await small.close();
  });

  test("two clients, one of which leaves", async () => {
    const other = await Client.connect(address, { name: "other" });
    const kept = client.submit("tests.integration.functions:sleep_and_return", [0.5, "kept"]);
    const left = other.submit("tests.integration.functions:sleep_and_return", [100]);
    const rejected = assert.rejects(left, ClientClosedError);
    await other.submit("operator:add", [1, 1]).catch(() => undefined);
    await other.close();
    await rejected;
    assert.throws(() => other.submit("operator:add", [1, 1]), ClientClosedError);
    await other.close();
    assert.equal(await kept, "kept");
  });

  test("a promise that nobody looks at when the client is closed ends no program", async () => {
    const other = await Client.connect(address);
    void other.submit("time:sleep", [100]);
    await other.close();
  });

  test("capabilities", async () => {
    assert.equal(await client.submit("operator:add", [1, 2], {}, { capabilities: ["linux"] }), 3);
  });

  test("a function whose process dies", async () => {
    await assert.rejects(client.submit("os:_exit", [7]), (error) => {
      assert.ok(error instanceof TaskEndedError);
      assert.equal(error.status, "processorDied");
      assert.match(error.message, /exit/);
      return true;
    });
  });

  test("another version of the protocol is refused with a sentence", async () => {
    const socket = new Dealer({ linger: 0 });
    const incarnation = randomBytes(16);
    (socket as { routingId: unknown }).routingId = incarnation;
    socket.connect(address);
    const hello = encodeHeader("hello", { protocolVersion: 999, incarnation, helloNumber: 1, softwareVersion: "9" });
    await socket.send([encodeEnvelope(UNSEQUENCED), hello]);
    const [, header] = await socket.receive();
    const answer = decodeHeader(header!);
    assert.equal(answer?.kind, "refused");
    assert.match(answer.body, /speaks protocol version \d+, you \(Scaler 9\) speak 999/);
    socket.close();
  });
});

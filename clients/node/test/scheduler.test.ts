/** The client against schedulers that no real one is: silent, refusing, sending nonsense, limiting credit. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import { Router } from "zeromq";

import { encodeHeader, type Kind, type Message } from "../src/capnp.js";
import { Client, ConnectionRefusedError, DisconnectedError, StorageError, TaskEndedError } from "../src/index.js";
import { Storage } from "../src/storage.js";
import { decode, encodeEnvelope, readU64, SEQUENCED, UNSEQUENCED, writeU32 } from "../src/wire.js";

class FakeScheduler {
  readonly router = new Router({ linger: 0 });
  readonly got: Message[] = [];
  address = "";
  private sent = 0;
  private peer: Buffer | null = null;
  private epoch = 0;

  static async start(onMessage: (message: Message, scheduler: FakeScheduler) => void): Promise<FakeScheduler> {
    const scheduler = new FakeScheduler();
    await scheduler.router.bind("tcp://127.0.0.1:*");
    scheduler.address = scheduler.router.lastEndpoint!;
    void scheduler.receive(onMessage);
    return scheduler;
  }

  private async receive(onMessage: (message: Message, scheduler: FakeScheduler) => void): Promise<void> {
    for await (const [peer, ...frames] of this.router) {
      const { message } = decode(frames);
      this.peer = peer!;
      this.got.push(message!);
      onMessage(message!, this);
    }
  }

  async say<K extends Kind>(kind: K, body: object | string | number, ...payloads: Buffer[]): Promise<void> {
    const isSequenced = kind === "creditGrant" || kind === "resultBatch";
    this.sent += isSequenced ? 1 : 0;
    const envelope = { ...UNSEQUENCED, sequence: this.sent, epoch: this.epoch, flags: isSequenced ? SEQUENCED : 0 };
    const frames = [encodeEnvelope(envelope), encodeHeader(kind, body as never), ...payloads];
    await this.router.send([this.peer!, ...frames]);
  }

  async welcome(message: Message, more: object = {}): Promise<void> {
    if (message.kind === "hello") {
      this.epoch = message.body.helloNumber;
      const welcome = {
        incarnation: Buffer.alloc(16, 1),
        taskCredit: -1n,
        helloNumber: this.epoch,
        heartbeatSeconds: 2,
      };
      await this.say("welcome", { ...welcome, ...more });
    }
  }
}

test("a refusal", async () => {
  const scheduler = await FakeScheduler.start((_, self) => void self.say("refused", "it is full"));
  await assert.rejects(Client.connect(scheduler.address), (error) => {
    assert.ok(error instanceof ConnectionRefusedError);
    assert.match(error.message, /refuses this client: it is full/);
    return true;
  });
  scheduler.router.close();
});

test("nobody answers", async () => {
  await assert.rejects(Client.connect("tcp://127.0.0.1:9", { timeoutSeconds: 1 }), (error) => {
    assert.ok(error instanceof DisconnectedError);
    assert.match(error.message, /no answer from the scheduler at tcp:\/\/127.0.0.1:9 for 1/);
    return true;
  });
  await assert.rejects(Client.connect("nonsense"), /cannot connect to "nonsense"/);
});

test("a scheduler that falls silent: every promise is settled in time, and an answer makes the client usable again", async () => {
  let isSilent = false;
  const scheduler = await FakeScheduler.start((message, self) => void (isSilent || self.welcome(message)));
  const client = await Client.connect(scheduler.address, { timeoutSeconds: 1.5 });
  isSilent = true;
  const tasks = [1, 2, 3].map((number) => client.submit("operator:neg", [number]));
  for (const outcome of await Promise.allSettled(tasks)) {
    assert.ok(outcome.status === "rejected" && outcome.reason instanceof DisconnectedError);
  }
  assert.throws(() => client.submit("operator:neg", [1]), DisconnectedError);
  isSilent = false;
  const until = Date.now() + 10_000;
  for (;;) {
    try {
      client.submit("operator:neg", [1]).catch(() => undefined);
      break;
    } catch {
      assert.ok(Date.now() < until);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  await client.close();
  scheduler.router.close();
});

test("a scheduler that permits a few tasks at a time gets no more", async () => {
  let granted = 0;
  const scheduler = await FakeScheduler.start((message, self) => {
    if (message.kind === "hello") {
      void self.welcome(message, { taskCredit: 0n });
    } else if (message.kind === "creditRequest") {
      granted += 2;
      void self.say("creditGrant", 2);
    } else if (message.kind === "taskBatch") {
      const { client, numbers } = message.body;
      const count = readU64(numbers).length;
      assert.ok(count <= 2);
      const lengths = writeU32(Array(count).fill(2));
      void self.say("resultBatch", { client, numbers, payloadLengths: lengths }, Buffer.from("J1".repeat(count)));
      if (granted < 20) {
        granted += 2;
        void self.say("creditGrant", 2);
      }
    }
  });
  const client = await Client.connect(scheduler.address);
  const results = await Promise.all(Array.from({ length: 20 }, () => client.submit("operator:neg", [1])));
  assert.equal(results.length, 20);
  await client.close();
  scheduler.router.close();
});

test("a cluster without object storage takes no large arguments", async () => {
  const scheduler = await FakeScheduler.start((message, self) => void self.welcome(message));
  const client = await Client.connect(scheduler.address);
  await assert.rejects(client.submit("builtins:len", ["x".repeat(300_000)]), (error) => {
    assert.ok(error instanceof TaskEndedError);
    assert.match(error.message, /too large for a message, and the cluster has no object storage/);
    return true;
  });
  await client.close();
  scheduler.router.close();
});

test("an object storage server that refuses", async () => {
  const storage = await FakeScheduler.start((message, self) => {
    if (message.kind === "objectPut") {
      void self.say("objectPutReply", { request: message.body.request, status: 1, text: "too large" });
    } else {
      void self.welcome(message);
    }
  });
  const more = { objectStorageAddress: storage.address };
  const scheduler = await FakeScheduler.start((message, self) => void self.welcome(message, more));
  const client = await Client.connect(scheduler.address);
  await assert.rejects(client.submit("builtins:len", ["x".repeat(300_000)]), (error) => {
    assert.ok(error instanceof StorageError);
    assert.match(error.message, /object storage refuses it: too large/);
    return true;
  });
  await client.close();
  scheduler.router.close();
  storage.router.close();
});

test("nonsense ends the client, and rejects what is unanswered", async () => {
  const scheduler = await FakeScheduler.start((message, self) => {
    if (message.kind === "taskBatch") {
      const { client, numbers } = message.body;
      void self.say("resultBatch", { client, numbers, payloadLengths: writeU32([1000]) }, Buffer.from("J1"));
    } else {
      void self.welcome(message);
    }
  });
  const client = await Client.connect(scheduler.address);
  await assert.rejects(client.submit("operator:neg", [1]), /sends what cannot be read/);
  await client.close();
  scheduler.router.close();
});

test("a get ends, however long the server says that the object may come", async (t) => {
  let milliseconds = 0;
  let gets = 0;
  const server = await FakeScheduler.start((message, self) => {
    if (message.kind === "objectGet") {
      gets += 1;
      milliseconds += 100_000;
      void self.say("objectData", { request: message.body.request, missing: true, mayCome: gets < 20 });
    } else {
      void self.welcome(message);
    }
  });
  t.mock.method(performance, "now", () => milliseconds);
  const identity = randomBytes(16);
  const storage = new Storage(server.address, identity, { incarnation: identity }, undefined, () => undefined);
  await assert.rejects(storage.get(randomBytes(16)), /does not have the value any more/);
  assert.equal(gets, 6);
  await storage.close("done", 100);
  server.router.close();
});

test("a client without a name has the default one, which is no name to count by", async () => {
  const scheduler = await FakeScheduler.start((message, self) => void self.welcome(message));
  const client = await Client.connect(scheduler.address);
  const [hello] = scheduler.got;
  assert.ok(hello?.kind === "hello");
  assert.equal(hello.body.name, `client|${hello.body.hostname}|${hello.body.pid}`);
  await client.close();
  scheduler.router.close();
});

test("room goes to those who still wait for it, and to no more than there is room for", async () => {
  let answer: (() => void) | null = null;
  let isHeld = true;
  const scheduler = await FakeScheduler.start((message, self) => {
    if (message.kind === "taskBatch") {
      const { client, numbers } = message.body;
      const count = readU64(numbers).length;
      const lengths = writeU32(Array(count).fill(2));
      const say = () =>
        void self.say("resultBatch", { client, numbers, payloadLengths: lengths }, Buffer.from("J1".repeat(count)));
      if (isHeld) {
        answer = say;
      } else {
        say();
      }
    } else {
      void self.welcome(message);
    }
  });
  const client = await Client.connect(scheduler.address, { queueLimit: 1 });
  const first = client.submit("operator:neg", [1]);
  // These have given up meanwhile: nothing follows.
  void client.ready();
  void client.ready();
  const others = [1, 2, 3].map(async (number) => {
    await client.ready();
    return client.submit("operator:neg", [number]);
  });
  const until = Date.now() + 10_000;
  while (answer === null) {
    assert.ok(Date.now() < until);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  isHeld = false;
  (answer as () => void)();
  await first;
  const late = new Promise((resolve) => setTimeout(() => resolve("nobody was woken"), 5000).unref());
  assert.deepEqual(await Promise.race([Promise.all(others), late]), [1, 1, 1]);
  await client.close();
  scheduler.router.close();
});

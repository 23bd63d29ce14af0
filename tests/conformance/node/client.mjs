// One conversation with DSPex per run; prints what a Node.js client saw as JSON.
import { connect, headers } from "@nats-io/transport-node";

const nats = await connect({ servers: process.env.DSPEX_NATS_URL });
const prefix = process.env.DSPEX_PREFIX;
const timeout = 20_000;

const encode = (value) => JSON.stringify(value);
const named = (values) => {
  const sent = headers();
  for (const [name, value] of Object.entries(values)) sent.set(name, value);
  return sent;
};
const seen = (message) => ({
  body: message.json(),
  headers: Object.fromEntries(
    [...(message.headers ?? [])].map(([name, values]) => [name, values[0]]),
  ),
});
const question = { question: "Why is the sky blue?" };

async function call(operation, body, sent = {}) {
  const subject = `${prefix}.v1.call.${operation}`;
  const reply = await nats.request(subject, encode(body), {
    headers: named(sent),
    timeout,
  });
  return seen(reply);
}

async function stream(options) {
  const subject = `${prefix}.v1.call.predict`;
  const body = encode({ signature: "question -> answer", inputs: question });
  const messages = await nats.requestMany(subject, body, {
    headers: named({ "Dspex-Request": `streamed-${crypto.randomUUID()}`, "Dspex-Stream": "inbox" }),
    strategy: "sentinel",
    maxWait: timeout,
    ...options,
  });
  const begun = Date.now();
  const events = [];
  let ends = 0;
  for await (const message of messages) {
    if (message.data.length === 0) ends += 1;
    else events.push(message.json());
  }
  return { events, ends, milliseconds: Date.now() - begun };
}

async function discover(verb) {
  const replies = await nats.requestMany(`$SRV.${verb}`, "", {
    strategy: "timer",
    maxWait: 1000,
  });
  const found = [];
  for await (const message of replies) found.push(message.json());
  return found;
}

const conversations = {
  request: () =>
    call(
      "predict",
      { signature: "question -> answer", inputs: question },
      { "Dspex-Request": "asked-by-node", "Dspex-Deadline": `${Date.now() + timeout}` },
    ),
  failure: () => call("predict", { signature: "no arrow", inputs: question }),
  unknown: () => call("predikt", {}),
  stream: () => stream({}),
  streamOwnInbox: () => stream({ noMux: true }),
  services: async () => ({
    ping: await discover("PING"),
    info: await discover("INFO"),
  }),
};

try {
  console.log(encode(await conversations[process.argv[2]]()));
} finally {
  await nats.drain();
}

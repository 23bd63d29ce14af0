// Asks DSPex two questions: one answered whole, one as it is written.
//   node ask.mjs "What is the capital of France?"
import { randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const url = process.env.DSPEX_NATS_URL ?? "nats://127.0.0.1:4222";
const prefix = process.env.DSPEX_PREFIX ?? "dspex";
const question = process.argv[2] ?? "What is the capital of France?";
const subject = `${prefix}.v1.call.predict`;
const timeout = 60_000;

const body = (signature) => JSON.stringify({ signature, inputs: { question } });

function described(extra = {}) {
  const sent = headers();
  sent.set("Dspex-Request", randomUUID());
  sent.set("Dspex-Deadline", String(Date.now() + timeout));
  for (const [name, value] of Object.entries(extra)) sent.set(name, value);
  return sent;
}

// A failure says what was wrong (message), what to do (hint), and whether the same
// request may succeed later (retryable).
function checked(said) {
  if (!["failed", "cancelled"].includes(said.kind ?? said.type)) return said;
  throw new Error(`${said.code}: ${said.message} ${said.hint}`);
}

async function ask(nats) {
  const reply = await nats.request(subject, body("question -> answer"), {
    headers: described(),
    timeout,
  });
  const { outputs, metadata } = checked(reply.json());
  console.log(`answer: ${outputs.answer}`);
  console.log(`  by ${metadata.worker}, ${metadata.total_ms} ms`);
}

async function askStreaming(nats) {
  const events = await nats.requestMany(subject, body("question -> answer"), {
    headers: described({ "Dspex-Stream": "inbox" }),
    strategy: "sentinel", // an empty message ends the stream
    noMux: true, // an inbox of its own: leaving the loop early stops the request
    maxWait: timeout,
  });
  process.stdout.write("streamed: ");
  for await (const message of events) {
    if (message.data.length === 0) break;
    const event = checked(message.json());
    if (event.kind === "delta") process.stdout.write(event.text);
  }
  process.stdout.write("\n");
}

let nats;
try {
  nats = await connect({ servers: url });
  await ask(nats);
  await askStreaming(nats);
} catch (error) {
  console.error(`${error.message} (NATS server: ${url})`);
  process.exitCode = 1;
} finally {
  await nats?.drain();
}

// Offers a function as a tool, and lets an agent use it.
//   node tool.mjs "Do I need an umbrella in Bergen?"
import { randomUUID } from "node:crypto";
import { connect, headers } from "@nats-io/transport-node";

const url = process.env.DSPEX_NATS_URL ?? "nats://127.0.0.1:4222";
const prefix = process.env.DSPEX_PREFIX ?? "dspex";
const question = process.argv[2] ?? "Do I need an umbrella in Bergen?";
const timeout = 60_000;

// What the model is told. The subject is known to this process alone.
const tool = {
  name: "rain",
  description: "Millimetres of rain expected in a city.",
  schema: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  },
  subject: `${prefix}.v1.tool.rain.${randomUUID()}`,
};

const rain = ({ city }) => ({ city, mm: city.length * 2 });

// Any JSON value is an answer; the error headers of NATS services are a failure, which
// the agent is told.
function offer(nats) {
  nats.subscribe(tool.subject, {
    callback: (error, message) => {
      if (error) return;
      try {
        message.respond(JSON.stringify(rain(message.json())));
      } catch (problem) {
        const said = headers();
        said.set("Nats-Service-Error-Code", "500");
        said.set("Nats-Service-Error", problem.message);
        message.respond("", { headers: said });
      }
    },
  });
}

async function ask(nats) {
  const body = { signature: "question -> answer", inputs: { question }, tools: [tool] };
  const sent = headers();
  sent.set("Dspex-Deadline", String(Date.now() + timeout));
  const subject = `${prefix}.v1.call.react`;
  const options = { headers: sent, timeout };
  const reply = await nats.request(subject, JSON.stringify(body), options);
  const said = reply.json();
  if (said.type === "failed") throw new Error(`${said.code}: ${said.message} ${said.hint}`);
  return said.outputs;
}

let nats;
try {
  nats = await connect({ servers: url });
  offer(nats);
  const { answer, trajectory } = await ask(nats);
  for (let step = 0; `tool_name_${step}` in trajectory; step += 1) {
    const called = JSON.stringify(trajectory[`tool_args_${step}`]);
    const seen = JSON.stringify(trajectory[`observation_${step}`]);
    console.log(`${trajectory[`tool_name_${step}`]} ${called} -> ${seen}`);
  }
  console.log(`answer: ${answer}`);
} catch (error) {
  console.error(`${error.message} (NATS server: ${url})`);
  process.exitCode = 1;
} finally {
  await nats?.drain();
}

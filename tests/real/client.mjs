// An editor made of the official TypeScript SDK: starts its arguments as its agent, does what the lines on its standard input
// say, and prints what it is told. The scenario is in ../src/bin/real-agents/clients.rs.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Readable, Writable } from "node:stream";

import * as acp from "@agentclientprotocol/sdk";

const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");
const [program, ...args] = process.argv.slice(2);
const agentProcess = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
const left = new Promise((resolve) => agentProcess.once("exit", (code, signal) => resolve(signal ?? code)));
const questions = [];

const connection = acp
  .client({ name: "kennel-tests" })
  .onRequest(acp.methods.client.session.requestPermission, ({ params }) => {
    tell({ question: params.toolCall });
    return new Promise((answer) => questions.push({ options: params.options, answer }));
  })
  .onNotification(acp.methods.client.session.update, ({ params }) => tell({ update: params.update }))
  .connect(acp.ndJsonStream(Writable.toWeb(agentProcess.stdin), Readable.toWeb(agentProcess.stdout)));
const { agent } = connection;

const orders = {
  new: async ({ cwd }) => {
    const { sessionId } = await agent.request(acp.methods.agent.session.new, { cwd, mcpServers: [] });
    tell({ session: sessionId });
  },
  load: async ({ cwd, session }) => {
    await agent.request(acp.methods.agent.session.load, { cwd, sessionId: session, mcpServers: [] });
    tell({ loaded: session });
  },
  prompt: async ({ session, text }) => {
    const prompt = [{ type: "text", text }];
    const { stopReason } = await agent.request(acp.methods.agent.session.prompt, { sessionId: session, prompt });
    tell({ stopped: stopReason });
  },
  cancel: ({ session }) => agent.notify(acp.methods.agent.session.cancel, { sessionId: session }),
  allow: async () => {
    const { options, answer } = questions.shift();
    const { optionId } = options.find(({ kind }) => kind === "allow_once");
    answer({ outcome: { outcome: "selected", optionId } });
  },
};

left.then((how) => {
  tell({ left: how });
  process.exit(0);
});
const hello = await agent.request(acp.methods.agent.initialize, {
  protocolVersion: acp.PROTOCOL_VERSION,
  clientCapabilities: {},
});
tell({ pid: agentProcess.pid, protocol: hello.protocolVersion });
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  // Not awaited: a prompt takes as long as its turn, and other orders come meanwhile.
  orders[order.do](order).catch((error) => tell({ error: order.do, message: error.message }));
}
agentProcess.stdin.end();

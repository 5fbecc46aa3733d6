#!/usr/bin/env python3
"""Which descriptors of an agent its MCP servers inherit.

    tests/real/descriptors.py DIR     DIR: where `run` has installed the agents

Each agent is started with open descriptors of several numbers, and told of an MCP server that notes which of them it
has. What is found is in manager/docs/decisions/0018-how-kennel-mcp-finds-the-manager.md.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time

NUMBERS = [5, 15, 16, 40, 200]
SERVER = 'for n in %s; do [ -e /proc/self/fd/$n ] && printf "%%s " $n; done >"$FOUND.new"; mv "$FOUND.new" "$FOUND"; exec cat >/dev/null'
SECONDS = 60

AGENTS = {
    "codex": (["codex-acp"], {"OPENAI_API_KEY": "sk-fake"}),
    "claude": (["claude-agent-acp"], {"ANTHROPIC_API_KEY": "sk-ant-fake", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}),
    "opencode": (["opencode", "acp"], {}),
}


def passed(installed, command, env):
    with tempfile.TemporaryDirectory() as home:
        found = os.path.join(home, "found")
        everything = {"PATH": os.environ["PATH"], "HOME": home, "IS_SANDBOX": "1", **env}
        if command[0].startswith("codex"):
            config = os.path.join(home, ".codex")
            os.mkdir(config)
            with open(os.path.join(config, "config.toml"), "w") as file:
                file.write(
                    'model = "fake"\nmodel_provider = "fake"\n[model_providers.fake]\nname = "fake"\n'
                    'base_url = "http://127.0.0.1:9/v1"\nwire_api = "responses"\nenv_key = "OPENAI_API_KEY"\n'
                )
        program = os.path.join(installed, "node_modules/.bin", command[0])
        agent = subprocess.Popen(
            [program, *command[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=everything, cwd=home, pass_fds=NUMBERS, start_new_session=True,
        )

        def say(number, method, params):
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            agent.stdin.write(json.dumps(message).encode() + b"\n")
            agent.stdin.flush()

        def answer(number):
            until = time.monotonic() + SECONDS
            while select.select([agent.stdout], [], [], max(0, until - time.monotonic()))[0]:
                line = agent.stdout.readline()
                if not line:
                    break
                message = json.loads(line)
                if message.get("id") == number and "method" not in message:
                    return message
            return {}

        try:
            say(1, "initialize", {"protocolVersion": 1, "clientCapabilities": {}})
            capabilities = answer(1).get("result", {}).get("agentCapabilities", {}).get("mcpCapabilities")
            args = ["-c", SERVER % " ".join(map(str, NUMBERS))]
            server = {"name": "probe", "command": "/bin/sh", "args": args, "env": [{"name": "FOUND", "value": found}]}
            say(2, "session/new", {"cwd": home, "mcpServers": [server]})
            until = time.monotonic() + SECONDS
            while not os.path.exists(found) and time.monotonic() < until:
                time.sleep(0.05)
            if not os.path.exists(found):
                return "its server was not started", capabilities
            with open(found) as file:
                return file.read().strip() or "none", capabilities
        finally:
            # The agent leads a process group of its own.
            os.killpg(agent.pid, 9)
            agent.wait()


def main():
    installed = os.path.abspath(sys.argv[1])
    # At these numbers is nothing that anybody else needs.
    source = os.open("/dev/null", os.O_RDONLY)
    for number in NUMBERS:
        os.dup2(source, number)
    for name, (command, env) in AGENTS.items():
        inherited, capabilities = passed(installed, command, env)
        print(f"{name}: inherited of {NUMBERS}: {inherited}; mcpCapabilities: {json.dumps(capabilities)}", flush=True)


main()

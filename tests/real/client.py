"""An editor made of the official Python SDK: starts its arguments as its agent, does what the lines on its standard input
say, and prints what it is told. The scenario is in ../src/bin/real-agents/clients.rs."""

import asyncio
import json
import os
import sys

import acp
from acp.schema import AllowedOutcome, RequestPermissionResponse


def tell(**what):
    print(json.dumps(what), flush=True)


def plain(model):
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Editor:
    def __init__(self):
        self.questions = []

    def on_connect(self, conn):
        pass

    async def session_update(self, session_id, update, **_):
        tell(update=plain(update))

    async def request_permission(self, session_id, tool_call, options, **_):
        tell(question=plain(tool_call))
        answer = asyncio.get_running_loop().create_future()
        self.questions.append((options, answer))
        return await answer


async def do(editor, agent, order):
    session = order.get("session")
    try:
        match order["do"]:
            case "new":
                tell(session=(await agent.new_session(cwd=order["cwd"], mcp_servers=[])).session_id)
            case "load":
                await agent.load_session(cwd=order["cwd"], session_id=session, mcp_servers=[])
                tell(loaded=session)
            case "prompt":
                answer = await agent.prompt(session_id=session, prompt=[acp.text_block(order["text"])])
                tell(stopped=answer.stop_reason)
            case "cancel":
                await agent.cancel(session_id=session)
            case "allow":
                options, answer = editor.questions.pop(0)
                option = next(option for option in options if option.kind == "allow_once")
                outcome = AllowedOutcome(outcome="selected", option_id=option.option_id)
                answer.set_result(RequestPermissionResponse(outcome=outcome))
            case other:
                raise ValueError(other)
    except Exception as error:
        tell(error=order["do"], message=str(error))


async def obey(editor, agent, process):
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    hello = await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
    tell(pid=process.pid, protocol=hello.protocol_version)
    running = set()
    while line := await orders.readline():
        # Not awaited: a prompt takes as long as its turn, and other orders come meanwhile.
        running.add(asyncio.create_task(do(editor, agent, json.loads(line))))
    process.stdin.close()
    await asyncio.Event().wait()


async def main():
    editor = Editor()
    transport = {"stderr": None, "limit": 16 * 1024 * 1024}
    command = sys.argv[1:]
    async with acp.spawn_agent_process(
        editor, *command, env=os.environ, transport_kwargs=transport
    ) as (agent, process):
        obeying = asyncio.create_task(obey(editor, agent, process))
        left = asyncio.create_task(process.wait())
        await asyncio.wait({obeying, left}, return_when=asyncio.FIRST_COMPLETED)
        if obeying.done() and not left.done():
            obeying.result()
        tell(left=await left)
        os._exit(0)


asyncio.run(main())

"""The worker program: the only file of this package that sees the bus."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import dspy
import msgspec
from dspy.utils import DummyLM
from msgspec.structs import replace

from dspex.bus.calling import Functions, Operations
from dspex.bus.gpu import VISIBLE, Memory, open_nvml
from dspex.bus.histories import Histories
from dspex.bus.job_running import JobWorker
from dspex.bus.program import VERSION, Context
from dspex.bus.provisioning import Names
from dspex.bus.replaying import VARIABLE, Answers, RecordedFunctions
from dspex.bus.responder import Profile, Responder
from dspex.bus.running import Identity, Outcome
from dspex.bus.serving import ServiceInfo
from dspex.bus.slots import Slots
from dspex.contracts import catalog, encoding, headers
from dspex.contracts.configuration import ConfigurationError
from dspex.contracts.session_requests import Turn
from dspex.native.operations import OPERATIONS
from dspex.native.service import run as native
from dspex.native.signatures.compiling import compile_signature
from dspex.native.tables.messages import ArrowTables
from dspex.services.worker.adapters import adapter
from dspex.services.worker.features import lacking
from dspex.services.worker.interpreters import sandbox
from dspex.services.worker.leaving import Leaving
from dspex.services.worker.lms import Builtin, LanguageModels
from dspex.services.worker.loading import StoredPrograms, load_own
from dspex.services.worker.mcp_tools import McpTools
from dspex.services.worker.modules import Modules
from dspex.services.worker.programs import Programs
from dspex.services.worker.recorded import recording
from dspex.services.worker.running import ProgramRunner
from dspex.services.worker.sessions import Limits, Sessions
from dspex.services.worker.signatures import dspy_signature
from dspex.services.worker.streaming import chunks
from dspex.services.worker.threads import AtHome, Home, Threads, contexts_are_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bus.core import Bus, Message
    from dspex.bus.events import Events
    from dspex.bus.running import Run
    from dspex.contracts.configuration import Configuration
    from dspex.contracts.pooling import Pool
    from dspex.contracts.program_specs import Specification
    from dspex.contracts.requests import Body
    from dspex.services.worker.interpreters import Interpreters

_log = logging.getLogger(__name__)

DEFAULT_OPERATION = "predict"
"""What a message to a pool's subject asks for when it does not say."""

_TALKATIVE = (
    "dspy.evaluate",
    "dspy.propose",
    "dspy.teleprompt",
    "dspy.utils.parallelizer",
    "gepa",
)
"""What logs examples and prompts, which are the tenants' own."""


def configure_dspy() -> None:
    """Set what holds for the whole process; everything else is set per request.

    Caches are off: an answer served from one would tell nobody that it was, and a
    stream from one has no deltas. Histories are off: they would hold every tenant's
    prompts.
    """
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.configure(disable_history=True, trace=None, warn_on_type_mismatch=False)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _as_it_is(run: Run) -> Run:
    return run


async def main(context: Context, wrap: Callable[[Run], Run] = _as_it_is) -> None:
    """Serve until told to stop, then drain.

    Args:
        context: What the program was started with.
        wrap: Puts something around what does an operation.

    Raises:
        SystemExit: It had to leave by itself; the status says why.
    """
    name: str = context.arguments.pool
    encoding.read_tables_with(ArrowTables())
    pool = _pool(context.configuration, name)
    lms = _language_models(context, pool)
    code, memory = sandbox(), _gpu_memory(context)
    found = _profile(context.configuration, name, memory, lacking(code))
    threads = None if contexts_are_apart() else Threads(pool.concurrency)
    programs = Programs(
        lms, pool.lm, threads, _program_runner(context, code, lms), memory
    )
    slots = Slots(pool.concurrency, pool.queue)
    sessions = _sessions(context, found, pool, slots)
    leaving = Leaving(context.stop)
    run = leaving.noticed(
        wrap(_runner(programs, sessions, context.bus, found.identity.worker))
    )
    responder = Responder(context, found, slots, run, sessions)
    jobs = JobWorker(context, found.identity, slots, run)
    lms.build(pool.lm)  # a key that is missing shows now, not at the first request
    leaving.start(pool.stall_s)
    await responder.start()
    await warm_up()
    sessions.start(responder.dispatched)
    await responder.open()
    await jobs.start()
    programs.start()
    _log.info("worker ready", extra={"worker": found.identity.worker})
    await context.stop.wait()
    sessions.drain()
    await asyncio.gather(jobs.stop(pool.grace_s), responder.stop(pool.grace_s))
    await sessions.stop()
    await programs.aclose()
    await leaving.stop()


async def warm_up() -> None:
    """Run one request on a model that answers at once.

    What DSPy loads on first use is then loaded, and what start-up left behind is no
    longer looked at by the garbage collector.
    """
    module = dspy.Predict(dspy_signature(compile_signature("question -> answer")))
    lm = DummyLM([{"answer": "ready"}] * 2)
    with dspy.context(lm=lm, adapter=adapter("chat"), trace=[]):
        await module.acall(question="ready?")
        async for _ in chunks(module, {"question": "ready?"}):
            pass
    gc.collect()
    gc.freeze()


def _pool(configuration: Configuration, name: str) -> Pool:
    try:
        return configuration.pools[name]
    except KeyError:
        raise ConfigurationError(
            f"No [pools.{name}] in the configuration. "
            f"Pools: {', '.join(sorted(configuration.pools))}."
        ) from None


def _gpu_memory(context: Context) -> Memory:
    gpus = open_nvml(context.environ.get(VISIBLE))
    if not gpus() or sys.platform == "win32":
        return Memory(gpus)
    from dspex.bus.promises import Promises, folder

    try:
        return Memory(gpus, Promises(folder()))
    except OSError as error:
        _log.warning("GPU memory is not shared out with other processes: %s", error)
        return Memory(gpus)


def _answers(context: Context, what: str) -> Answers | None:
    """Where a replay has the answers of ``lm`` or ``tools`` from; ``None``: nowhere."""
    asked = context.environ.get(VARIABLE, "").split(",")
    if what not in asked:
        return None
    subjects = context.configuration.subjects
    return Answers(context.bus, subjects, real="live" in asked)


def _language_models(context: Context, pool: Pool) -> LanguageModels:
    configuration, environ = context.configuration, context.environ
    if pool.lm not in configuration.lms:
        raise ConfigurationError(
            f"No [lms.{pool.lm}] in the configuration. Set DSPEX_LM to a model such "
            "as openai/gpt-4o-mini, or run `dspex doctor` to see what there is."
        )
    url, key = environ.get("DSPEX_MODEL_URL"), environ.get("DSPEX_MODEL_KEY")
    return LanguageModels(
        configuration.lms,
        environ=environ,
        builtin=Builtin(url, key) if url and key else None,
        answers=_answers(context, "lm"),
    )


def _sessions(context: Context, profile: Profile, pool: Pool, slots: Slots) -> Sessions:
    return Sessions(
        context.bus,
        context.configuration.subjects,
        profile.identity.worker,
        slots,
        Limits(most=pool.sessions, idle=pool.session_idle_s),
    )


def _runner(programs: Programs, sessions: Sessions, bus: Bus, worker: str) -> Run:
    """What does an operation: DSPy, or natively what native-ops would do."""
    apart = contexts_are_apart()

    async def recorded(operation: str, body: Body, events: Events) -> Outcome:
        async with recording(bus, events, worker, apart=apart) as record:
            outcome = await programs.run(operation, body, events)
            record.outputs = outcome.outputs
        return outcome

    async def run(operation: str, body: Body, events: Events) -> Outcome:
        if isinstance(body, Turn):
            return await sessions.run(operation, body, events, recorded)
        if operation in OPERATIONS:
            return await native(operation, body, events)
        return await recorded(operation, body, events)

    return run


def _versions(configuration: Configuration) -> str:
    """What this worker's answers depend on beside the request."""
    # Keys are not part of it: they say who pays.
    lms = {
        name: replace(one, api_key=None, api_key_env=None)
        for name, one in configuration.lms.items()
    }
    said = (VERSION, dspy.__version__, lms)
    digest = hashlib.sha256(msgspec.msgpack.encode(said, order="deterministic"))
    return digest.hexdigest()[:16]


def _profile(
    configuration: Configuration, name: str, memory: Memory, lacks: list[str]
) -> Profile:
    subjects, pool = configuration.subjects, configuration.pools[name]
    worker = f"{name}-{uuid4().hex[:12]}"
    operations, spare = catalog.served_by("python"), catalog.served_by("native")
    if pool.operations:
        operations, spare = list(pool.operations), []
    return Profile(
        info=ServiceInfo(
            name=f"dspex-worker-{name}",
            version=VERSION,
            description=f"DSPy programs, pool {name}.",
            metadata={
                "pool": name,
                "worker": worker,
                "dspy": dspy.__version__,
                "pid": str(os.getpid()),
            },
            id=worker,
        ),
        identity=Identity(
            subjects=subjects,
            pool=name,
            worker=worker,
            implementation="python",
            operations=frozenset(operations + spare),
            request_timeout_s=pool.request_timeout_s,
            dspy=dspy.__version__,
        ),
        direct=(subjects.pool_run(name), subjects.tenant_pool_runs(name)),
        queue=name,
        operation_of=_operation_of,
        operations=operations,
        spare=spare,
        lacks=lacks,
        weight=pool.weight,
        lms=sorted(configuration.lms),
        lm=pool.lm,
        versions=_versions(configuration),
        gpus=memory.read,
    )


def _program_runner(
    context: Context, code: Interpreters | None, lms: LanguageModels
) -> ProgramRunner:
    configuration = context.configuration
    functions: Functions | RecordedFunctions
    functions = Functions(context.bus, configuration.tools.subjects)
    if answers := _answers(context, "tools"):
        functions = RecordedFunctions(functions, answers)
    histories = Histories(context.bus, Names(configuration.prefix).programs)
    stored, home = StoredPrograms(histories), Home()

    async def find(tenant: str, reference: str) -> Specification:
        return await home.do(stored.find(tenant, reference))

    return ProgramRunner(
        find,
        AtHome(functions, home),
        load_own(configuration.programs),
        Modules(code, _mcp(context), lms),
        operations=AtHome(Operations(context.bus), home),
    )


def _mcp(context: Context) -> McpTools:
    configuration, environ = context.configuration, context.environ
    return McpTools(configuration.mcp, context.bus, configuration.subjects, environ)


def _operation_of(message: Message) -> str:
    return message.headers.get(headers.OPERATION, DEFAULT_OPERATION)

"""The operations, in one table.

Router, native-ops, workers, clients, the JSON Schemas and the documentation
are all made from it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from dspex.contracts import (
    dataset_requests,
    job_requests,
    learning_requests,
    native_requests,
    program_requests,
    replay_requests,
    requests,
    session_requests,
    stream_requests,
)
from dspex.contracts.failures import UnknownOperation, nearest


class Operation(Struct, frozen=True, kw_only=True):
    """One thing a client can ask for.

    Attributes:
        name: As it stands in the subject.
        summary: One sentence for people.
        request: Type of the body.
        outputs: Type of the reply's ``outputs``; ``dict`` when the request's
            signature says what they are.
        implementation: Who can do it: ``python`` (a DSPy worker), ``native``,
            ``state`` or ``replay``.
        columns: Whether its body and its reply may be Arrow streams.
        idempotent: Whether it may run again elsewhere when the process that had it is
            lost, unless the request says otherwise.
        streams: Whether outputs can arrive as deltas.
        fresh: Whether it asks how things are now, so that no kept answer will do.
        relays: Whether its inbox gets the events of another request.
    """

    name: str
    summary: str
    request: type[requests.Body]
    outputs: Any
    implementation: Literal["python", "native", "state", "replay"]
    streams: bool = False
    idempotent: bool = True
    columns: bool = False
    fresh: bool = False
    relays: bool = False


_ALL = (
    Operation(
        name="predict",
        summary="Fill a signature's outputs from its inputs.",
        request=requests.Predict,
        outputs=dict[str, Any],
        implementation="python",
        streams=True,
    ),
    Operation(
        name="chain_of_thought",
        summary="The same, with an output `reasoning` written first.",
        request=requests.Predict,
        outputs=dict[str, Any],
        implementation="python",
        streams=True,
    ),
    Operation(
        name="react",
        summary="Fill a signature's outputs with an agent that calls tools.",
        request=program_requests.React,
        outputs=dict[str, Any],
        implementation="python",
        streams=True,
        idempotent=False,
    ),
    Operation(
        name="run",
        summary="Run a program: a specification, or a stored one by its name.",
        request=program_requests.RunProgram,
        outputs=dict[str, Any],
        implementation="python",
        streams=True,
    ),
    Operation(
        name="program.evaluate",
        summary="Run a program on examples and score its answers.",
        request=learning_requests.Evaluate,
        outputs=learning_requests.Evaluated,
        implementation="python",
        columns=True,
    ),
    Operation(
        name="program.optimize",
        summary="Improve a program by examples, with an optimizer of DSPy's.",
        request=learning_requests.Optimize,
        outputs=learning_requests.Optimized,
        implementation="python",
        idempotent=False,
    ),
    Operation(
        name="program.put",
        summary="Store a new version of a program.",
        request=program_requests.PutProgram,
        outputs=program_requests.StoredProgram,
        implementation="state",
        idempotent=False,
    ),
    Operation(
        name="program.get",
        summary="Say what a stored program is.",
        request=program_requests.GetProgram,
        outputs=program_requests.StoredProgram,
        implementation="state",
        fresh=True,
    ),
    Operation(
        name="program.list",
        summary="Say which programs are stored.",
        request=program_requests.ListPrograms,
        outputs=program_requests.ProgramList,
        implementation="state",
        fresh=True,
    ),
    Operation(
        name="program.describe",
        summary="Say what a program takes, gives, calls and needs.",
        request=program_requests.DescribeProgram,
        outputs=program_requests.DescribedProgram,
        implementation="state",
        fresh=True,
    ),
    Operation(
        name="dataset.put",
        summary="Store a new version of a dataset.",
        request=dataset_requests.PutDataset,
        outputs=dataset_requests.StoredDataset,
        implementation="state",
        idempotent=False,
        columns=True,
    ),
    Operation(
        name="dataset.get",
        summary="Say what a stored dataset is, with its examples.",
        request=dataset_requests.GetDataset,
        outputs=dataset_requests.StoredDataset,
        implementation="state",
        fresh=True,
    ),
    Operation(
        name="dataset.list",
        summary="Say which datasets are stored.",
        request=dataset_requests.ListDatasets,
        outputs=dataset_requests.DatasetList,
        implementation="state",
        fresh=True,
    ),
    Operation(
        name="dataset.delete",
        summary="Delete a stored dataset.",
        request=dataset_requests.DeleteDataset,
        outputs=dataset_requests.DeletedDataset,
        implementation="state",
        idempotent=False,
    ),
    Operation(
        name="program.delete",
        summary="Delete a stored program.",
        request=program_requests.DeleteProgram,
        outputs=program_requests.DeletedProgram,
        implementation="state",
        idempotent=False,
    ),
    Operation(
        name="tool.list",
        summary="Say which tools are offered now.",
        request=program_requests.ListTools,
        outputs=program_requests.ToolList,
        implementation="state",
        fresh=True,
    ),
    Operation(
        name="signature.parse",
        summary="Read a signature: its fields, types and JSON Schemas.",
        request=native_requests.ParseSignature,
        outputs=native_requests.ParsedSignature,
        implementation="native",
    ),
    Operation(
        name="signature.describe",
        summary="Say what a signature's inputs and outputs are, as JSON Schemas.",
        request=native_requests.DescribeSignature,
        outputs=native_requests.DescribedSignature,
        implementation="native",
    ),
    Operation(
        name="signature.validate",
        summary="Check values against a signature's types and constraints.",
        request=native_requests.ValidateSignature,
        outputs=native_requests.ValidatedSignature,
        implementation="native",
    ),
    Operation(
        name="prompt.render",
        summary="Write the messages that DSPy would send to a language model.",
        request=native_requests.RenderPrompt,
        outputs=native_requests.RenderedPrompt,
        implementation="native",
    ),
    Operation(
        name="response.parse",
        summary="Read a language model's reply as DSPy would.",
        request=native_requests.ParseResponse,
        outputs=native_requests.ParsedResponse,
        implementation="native",
    ),
    Operation(
        name="template.render",
        summary="Fill a Liquid template.",
        request=native_requests.RenderTemplate,
        outputs=native_requests.RenderedTemplate,
        implementation="native",
    ),
    Operation(
        name="schema.validate",
        summary="Check a value against a JSON Schema.",
        request=native_requests.ValidateSchema,
        outputs=native_requests.ValidatedSchema,
        implementation="native",
    ),
    Operation(
        name="metric.score",
        summary="Score one prediction against what would be right.",
        request=native_requests.ScoreMetric,
        outputs=native_requests.ScoredMetric,
        implementation="native",
    ),
    Operation(
        name="metric.batch",
        summary="Score many predictions; also an Arrow stream of them.",
        request=native_requests.ScoreBatch,
        outputs=native_requests.ScoredBatch,
        implementation="native",
        columns=True,
    ),
    Operation(
        name="job.submit",
        summary="Have an operation done, whatever becomes of who asks.",
        request=job_requests.SubmitJob,
        outputs=job_requests.ShownJob,
        implementation="state",
    ),
    Operation(
        name="job.get",
        summary="Say what became of a job.",
        request=job_requests.GetJob,
        outputs=job_requests.ShownJob,
        implementation="state",
    ),
    Operation(
        name="job.list",
        summary="List jobs.",
        request=job_requests.ListJobs,
        outputs=job_requests.JobList,
        implementation="state",
    ),
    Operation(
        name="job.cancel",
        summary="End a job that waits or runs.",
        request=job_requests.CancelJob,
        outputs=job_requests.ShownJob,
        implementation="state",
    ),
    Operation(
        name="job.wait",
        summary="Wait for a job to end.",
        request=job_requests.WaitJob,
        outputs=job_requests.ShownJob,
        implementation="state",
    ),
    Operation(
        name="job.retry",
        summary="Try a dead job again.",
        request=job_requests.RetryJob,
        outputs=job_requests.ShownJob,
        implementation="state",
    ),
    Operation(
        name="session.open",
        summary="Begin a session: a conversation that outlives its worker.",
        request=session_requests.OpenSession,
        outputs=session_requests.SessionInfo,
        implementation="state",
    ),
    Operation(
        name="session.get",
        summary="See a session, its values and its turns.",
        request=session_requests.GetSession,
        outputs=session_requests.SessionDetails,
        implementation="state",
    ),
    Operation(
        name="session.list",
        summary="See which sessions there are.",
        request=session_requests.ListSessions,
        outputs=session_requests.SessionList,
        implementation="state",
    ),
    Operation(
        name="session.set",
        summary="Store values in a session.",
        request=session_requests.SetSession,
        outputs=session_requests.SessionInfo,
        implementation="state",
    ),
    Operation(
        name="session.close",
        summary="End a session.",
        request=session_requests.CloseSession,
        outputs=session_requests.SessionInfo,
        implementation="state",
    ),
    Operation(
        name="session.fork",
        summary="Begin a session that has the first turns of another.",
        request=session_requests.ForkSession,
        outputs=session_requests.SessionInfo,
        implementation="state",
    ),
    Operation(
        name="stream.resume",
        summary="Go on with the events of a request, behind the last that arrived.",
        request=stream_requests.ResumeStream,
        outputs=stream_requests.ResumedStream,
        implementation="state",
        idempotent=False,
        relays=True,
    ),
    Operation(
        name="replay.run",
        summary="Send requests of the journal again, and say what is different.",
        request=replay_requests.RunReplay,
        outputs=replay_requests.ReplayRun,
        implementation="replay",
        streams=True,
        idempotent=False,
    ),
)

OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _ALL}
"""Every operation, by name."""


def operation(name: str) -> Operation:
    """The operation called ``name``.

    Raises:
        UnknownOperation: There is none; the message names the nearest.
    """
    try:
        return OPERATIONS[name]
    except KeyError:
        raise UnknownOperation(
            f"Unknown operation {name[:80]!r}. {nearest(name, OPERATIONS)}",
            hint="Publish on dspex.v1.call.<operation> with one of these names.",
        ) from None


def relays(name: str) -> bool:
    """Whether the inbox of an operation gets the events of another request."""
    return name in OPERATIONS and OPERATIONS[name].relays


def served_by(implementation: str) -> list[str]:
    """Names of the operations that one implementation serves."""
    return [one.name for one in _ALL if one.implementation == implementation]

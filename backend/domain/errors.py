"""The errors Premask raises on purpose. Each carries a stable code, an HTTP status and a sentence for a person.

Adapters translate exactly the failure they know into one of these and let every other exception through.
"""


class PremaskError(Exception):
    """Base of all deliberate errors. `code` is stable and machine readable; `str(error)` is for a person."""

    code = "premask_error"
    http_status = 500

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class BadInput(PremaskError):
    """What came in can't be used (a video, an instruction, a setting). The run fails with this reason; the worker
    goes on."""

    code = "bad_input"
    http_status = 422


class UnreadableVideo(BadInput):
    """The bytes are not a video that can be annotated: not a video, truncated, no frames, audio only, too small or
    large."""

    code = "unreadable_video"


class InvalidEvent(PremaskError):
    """An event body that no adapter recognises."""

    code = "invalid_event"
    http_status = 422


class NotFound(PremaskError):
    code = "not_found"
    http_status = 404


class Conflict(PremaskError):
    """The request contradicts the present state (a name already taken, a run that is no longer retryable)."""

    code = "conflict"
    http_status = 409


class FenceLost(PremaskError):
    """Another worker owns the run now; everything this one still holds is void and must not be written."""

    code = "fence_lost"
    http_status = 409


class ObjectGone(BadInput):
    """The object was deleted or replaced between the event and the work."""

    code = "object_gone"


class ServiceUnavailable(PremaskError):
    """A part outside the process (Label Studio, S3, broker) does not answer now; the work is to be tried again
    later, in `retry_after_s` seconds at the earliest where that is known."""

    code = "service_unavailable"
    http_status = 503

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ModelServerFailed(PremaskError):
    """A model server took a request and failed at it, or never ended it. The next attempt may do, so it counts as
    one."""

    code = "model_server_failed"
    http_status = 502


class Misconfigured(PremaskError):
    """A setting is missing or contradicts another. The message names the setting."""

    code = "misconfigured"

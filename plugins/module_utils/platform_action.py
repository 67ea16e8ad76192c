"""Frame of this project's actions: what they do is done in the process that Ansible forks for the task.

Everything happens on the controller. A module would be a Python of its own that imports botocore and reads its models
anew, for each task; an action finds them loaded (docs/decisions/0008-in-process.md). What a user sees is as with a
module: arguments are validated, `environment`, check mode, diff, `no_log` and warnings work, and `ansible-doc` shows
the YAML file beside the action.

`PlatformAction` is for actions that take what they need from the environment, `AwsAction` also takes the options of
amazon.aws's modules (region, profile, ...), `ResourceAction` is for those that bring AWS resources to a wanted state.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import Any, ClassVar, NoReturn

from ansible.errors import AnsibleError
from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.amazon.aws.plugins.module_utils.botocore import get_aws_connection_info
from ansible_collections.amazon.aws.plugins.module_utils.modules import aws_argument_spec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from . import aws_plan
from .aws_plan import Plan, Refusal
from .aws_session import environment_of, new_client, new_session, preload

Arguments = dict[str, dict[str, Any]]
"""An argument specification, as AnsibleModule takes it."""

RESOURCE_ARGUMENTS: Arguments = {
    "platform": {"type": "str", "required": True},
    "resource_tags": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "wait": {"type": "bool", "default": True},
    "only_obstacles": {"type": "bool", "default": False},
    "only_facts": {"type": "bool", "default": False},
}
"""Arguments of every action that makes resources; plugins/doc_fragments/platform.py describes them."""

USER_AGENT = "dagster-ecs-platform"
NO_ANSWER = (
    "Check the way to AWS: network, VPN, proxy, and AWS_ENDPOINT_URL where it is set (for the emulator: is it up?). "
    "Then run the same command again: what is done is kept."
)
"""What to do when AWS does not answer."""
_SHOWN = 3
"""Resources that a message names."""


class Failure(Exception):
    """The action has failed, with a message and further values of its result."""

    def __init__(self, msg: str, **results: Any) -> None:
        super().__init__(msg)
        self.results = {"msg": msg, **results}


def aws_failure(error: Exception, msg: str, **results: Any) -> Failure:
    """Return the failure because of what AWS, or its client, has said."""
    said = camel_dict_to_snake_dict(getattr(error, "response", None) or {})
    advice = f". {NO_ANSWER}" if isinstance(error, (ConnectionError, HTTPClientError)) else ""
    return _failure(error, f"{msg}: {str(error).rstrip('.') if advice else error}{advice}", {**said, **results})


def _failure_of(error: Exception, **results: Any) -> Failure:
    """Return the failure that an error means, with further values of the result.

    Ansible gets none of them as an exception: it does not know what is secret in the text.
    """
    match error:
        case Failure():
            error.results = {**results, **error.results}
            return error
        case ClientError() | BotoCoreError():
            return aws_failure(error, refused(error), **results)
    return _failure(error, f"{type(error).__name__}: {error}", results)


def _failure(error: Exception, msg: str, results: Mapping[str, Any]) -> Failure:
    """Return a failure with the traceback, which Ansible shows to whoever asks for it."""
    failure = Failure(msg)
    failure.results = {**results, **failure.results, "exception": "".join(traceback.format_exception(error))}
    return failure


def _plain(value: Any) -> Any:
    """Return what JSON does not know as a module does: sets as lists, dates as text."""
    match value:
        case set() | frozenset():
            return sorted(value, key=str)
        case date():
            return value.isoformat()
        case bytes():
            return value.decode(errors="replace")
        case Mapping():
            return dict(value)
    return str(value)


class Call:
    """One call of an action: its arguments, and what the work may ask of Ansible and of AWS.

    The names are those of `AnsibleAWSModule`.
    """

    def __init__(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        check_mode: bool = False,
        diff: bool = False,
        secrets: Sequence[str] = (),
    ) -> None:
        """`params` are validated; `secrets` are the values of those with `no_log`, masked wherever they go."""
        self.name = name
        # As a module gets them: plain values, without Ansible's notes of where each comes from.
        self.params: dict[str, Any] = json.loads(json.dumps(params, default=_plain))
        self.check_mode = check_mode
        self.diff = diff
        self._secrets = set(secrets)
        self._parent = os.getppid()

    @property
    def abandoned(self) -> bool:
        """Whether ansible-playbook was killed, and this process goes on without it."""
        return os.getppid() != self._parent

    def show(self, text: str) -> None:
        """Show a line to the user at once."""
        if not self.abandoned:
            Display().display(self.masked(text))

    def warn(self, text: str) -> None:
        """Show a warning; it is part of the result, too."""
        Display().warning(self.masked(text))

    def fail_json(self, msg: str, **results: Any) -> NoReturn:
        """End the work as failed."""
        raise Failure(msg, **results)

    def fail_json_aws(self, error: Exception, msg: str, **results: Any) -> NoReturn:
        """End the work as failed because of what AWS, or its client, has said."""
        raise aws_failure(error, msg, **results) from error

    @cached_property
    def _connection(self) -> tuple[str | None, str | None, dict[str, Any]]:
        """Region, endpoint and keyword arguments of a client, by the options of amazon.aws."""
        found: tuple[str | None, str | None, dict[str, Any]] = get_aws_connection_info(self)
        return found

    @cached_property
    def _session(self) -> Any:
        return new_session(self._connection[2].get("profile_name"))

    @property
    def region(self) -> str | None:
        """The region of this call."""
        return self._connection[0]

    @property
    def endpoint(self) -> str | None:
        """The endpoint of this call, None for AWS's own or the one of the environment."""
        return self._connection[1]

    def client(self, service: str, *, region: str | None = None) -> Any:
        """Return a client of an AWS service; `region` takes the place of that of the call."""
        own, endpoint, others = self._connection
        keywords = {key: value for key, value in others.items() if key not in ("profile_name", "aws_config")}
        config = Config(user_agent_extra=USER_AGENT).merge(others.get("aws_config") or Config())
        try:
            return new_client(
                self._session, service, config, region_name=region or own, endpoint_url=endpoint, **keywords
            )
        except (ValueError, BotoCoreError) as error:
            self.fail_json_aws(error, msg="Couldn't connect to AWS")

    def masked(self, value: Any) -> Any:
        """Return text, or values of a result, without the values of arguments that nobody may see."""
        return remove_values(value, self._secrets)


class PlatformAction(ActionBase):  # type: ignore[misc]
    """An action that does its work in this process.

    A subclass has its `arguments`, conditions between them (`rules`, as AnsibleModule takes them: `required_if`, ...),
    the AWS `services` whose models are to be loaded with it, and the method `perform`.
    """

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    common: ClassVar[Arguments] = {}
    arguments: ClassVar[Arguments] = {}
    rules: ClassVar[dict[str, Any]] = {}
    services: ClassVar[Sequence[str]] = ()

    def __init_subclass__(cls) -> None:
        """Complete the arguments. Ansible loads a class before it forks, and so the models are loaded then."""
        super().__init_subclass__()
        cls.arguments = {**cls.common, **cls.arguments}
        preload(cls.services)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the work with the environment of the task; raise AnsibleActionFail for arguments that cannot be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.task_vars: dict[str, Any] = task_vars or {}
        environment: dict[str, Any] = {}
        self._compute_environment_string(environment)
        with environment_of(environment):
            self._task.args = {**self._task.args, **self.given()}
            validated, params = self.validate_argument_spec(self.arguments, **self.rules)
            call = Call(
                self._task.action,
                {name: params[name] for name in self.arguments if name in params},
                check_mode=self._task.check_mode,
                diff=self._task.diff,
                secrets=validated._no_log_values,
            )
            with aws_plan.progress_to(lambda text: call.show(f"  {text}")):
                try:
                    values = self.perform(call)
                except AnsibleError:
                    raise
                except Exception as error:
                    values = {"failed": True, **_failure_of(error).results}
        values = {"changed": False, "invocation": {"module_args": call.params}, **values}
        masked: dict[str, Any] = call.masked(json.loads(json.dumps(values, default=_plain)))
        if call.abandoned:
            # Ansible would write the result into a pipe that nobody reads, and wait there for ever with a long one. The
            # lock of the platform is kept as long.
            os._exit(1)
        return result | masked

    def given(self) -> dict[str, Any]:
        """Return arguments that the action knows by itself, in the place of those of the task."""
        return {}

    def perform(self, call: Call) -> dict[str, Any]:
        """Do the work and return the values of the result; raise `Failure` by `call.fail_json`."""
        raise NotImplementedError


class AwsAction(PlatformAction):
    """An action with the options of amazon.aws's modules for region, endpoint and credentials."""

    common: ClassVar[Arguments] = aws_argument_spec()


class ResourceAction(AwsAction):
    """An action that compares AWS resources with what is wanted, and changes what differs.

    A subclass has the method `work`, which returns values besides `changed`, `changes`, `diff` and `region`. On failure
    the changes made until then are reported too, so that nobody has to guess how far a half-finished run came. With
    `only_obstacles` nothing is changed and nothing is reported but what stands in the way; with `only_facts` nothing is
    changed, and what `work` returns is of resources that exist.
    """

    common: ClassVar[Arguments] = AwsAction.common | RESOURCE_ARGUMENTS

    def work(self, call: Call, plan: Plan) -> dict[str, Any]:
        """Bring the resources to the wanted state."""
        raise NotImplementedError

    def perform(self, call: Call) -> dict[str, Any]:
        """Do the work, and report the plan."""
        looks, reads = call.params["only_obstacles"], call.params["only_facts"]
        plan = Plan(call.check_mode or looks or reads, wait=call.params["wait"])
        try:
            facts = self.work(call, plan)
        except Refusal as refusal:
            obstacles = [*plan.obstacles, str(refusal)]
            call.fail_json(" ".join(obstacles), obstacles=obstacles, changes=[] if looks or reads else plan.changes)
        except AnsibleError:
            raise
        except Exception as error:
            raise _failure_of(error, changes=[] if looks or reads else plan.changes) from error
        if plan.obstacles:
            call.fail_json(" ".join(plan.obstacles), obstacles=plan.obstacles, changes=[] if looks else plan.changes)
        if looks:
            return {}
        if reads:
            if missing := not_there(call.params["platform"], plan.changes):
                call.fail_json(missing, changes=[])
            return {"changes": [], "ready": True, "region": call.region, **facts}
        return {**plan.results(), "region": call.region, **facts}


def refused(error: Exception) -> str:
    """Return how a message about a failed request begins."""
    if isinstance(error, (ConnectionError, HTTPClientError)):
        return "AWS does not answer"
    return f"AWS refused {getattr(error, 'operation_name', 'an AWS request')}"


def not_there(platform: str, changes: Sequence[Mapping[str, Any]]) -> str:
    """Return the message about resources that would have to be made first; empty if there are none."""
    missing = [f"{change['kind']} {change['name']}" for change in changes if change["action"] in ("create", "replace")]
    if not missing:
        return ""
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return (
        f"The platform {platform!r} is not there as the inventory describes it: {', '.join(missing[:_SHOWN])}{more} "
        "would have to be made, and this playbook only uses what exists. Nothing was changed. Run site.yml first "
        "(site.yml --check --diff shows what it would do), then this playbook again."
    )

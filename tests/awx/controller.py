"""A stand-in for AWX's API over HTTP, with the rules of its server that a configuration can break.

It has what the modules of awx.awx 24.6.1 call for the objects of awx/: lists with filters, one object, associations,
surveys, launches. Told in our words from awx/api and awx/main of https://github.com/ansible/awx, commit e21dd0a0:
`JobOptionsSerializer.validate` (playbook of the project), `JobTemplateCredentialsList.is_valid_relation` (one
credential of a type), `CredentialTypeInputField` and `CredentialTypeInjectorField` in awx/main/fields.py,
`Credential.inputs`, `NotificationTemplateSerializer.validate`, `SchedulePreviewSerializer.validate_rrule`,
`LaunchConfigurationBaseSerializer` and `JobLaunchSerializer`. It is stricter in one thing: AWX ignores fields that it
does not know, and here they are refused. It runs no jobs.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from tests.awx import surveys

TOKEN = "a-token-of-this-test"
ENCRYPTED = "$encrypted$"
Item = dict[str, Any]

_ASK = [
    f"ask_{name}_on_launch"
    for name in ("diff_mode", "variables", "limit", "tags", "skip_tags", "job_type", "inventory", "credential")
]
_LAUNCH = ("extra_data", "inventory", "job_type", "job_tags", "skip_tags", "limit", "diff_mode")
FIELDS: dict[str, dict[str, Any]] = {
    "organizations": {"description": "", "default_environment": None, "max_hosts": 0},
    "credential_types": {"description": "", "kind": ..., "inputs": {}, "injectors": {}, "managed": False},
    "credentials": {"description": "", "organization": None, "credential_type": ..., "inputs": {}},
    "execution_environments": {"description": "", "organization": None, "image": ..., "pull": "", "credential": None},
    "projects": {
        "description": "",
        "organization": None,
        "scm_type": "",
        "scm_url": "",
        "scm_branch": "",
        "scm_clean": False,
        "scm_update_on_launch": False,
        "scm_update_cache_timeout": 0,
        "allow_override": False,
        "credential": None,
        "default_environment": None,
    },
    "inventories": {"description": "", "organization": ..., "kind": "", "host_filter": None, "variables": ""},
    "inventory_sources": {
        "description": "",
        "inventory": ...,
        "source": ...,
        "source_path": "",
        "source_project": None,
        "execution_environment": None,
        "overwrite": False,
        "overwrite_vars": False,
        "update_on_launch": False,
        "update_cache_timeout": 0,
    },
    "notification_templates": {
        "description": "",
        "organization": ...,
        "notification_type": ...,
        "notification_configuration": {},
    },
    "job_templates": {
        "description": "",
        "organization": None,
        "job_type": "run",
        "project": None,
        "inventory": None,
        "playbook": "",
        "execution_environment": None,
        "diff_mode": False,
        "extra_vars": "",
        "survey_enabled": False,
        "allow_simultaneous": False,
        **dict.fromkeys(_ASK, False),
    },
    "workflow_job_templates": {
        "description": "",
        "organization": None,
        "survey_enabled": False,
        "allow_simultaneous": False,
    },
    "workflow_job_template_nodes": {
        "workflow_job_template": ...,
        "unified_job_template": None,
        "identifier": ...,
        **dict.fromkeys(_LAUNCH),
    },
    "schedules": {
        "description": "",
        "rrule": ...,
        "unified_job_template": ...,
        "enabled": True,
        **dict.fromkeys(_LAUNCH),
    },
}
"""Endpoint -> field -> default; `...`: there is none, the field is required."""

REFERS = {
    "organization": "organizations",
    "default_environment": "execution_environments",
    "execution_environment": "execution_environments",
    "credential_type": "credential_types",
    "credential": "credentials",
    "project": "projects",
    "source_project": "projects",
    "inventory": "inventories",
    "workflow_job_template": "workflow_job_templates",
}
ASSOCIATIONS = {
    "credentials": "credentials",
    "notification_templates_error": "notification_templates",
    "success_nodes": "workflow_job_template_nodes",
}
GOES_WITH = {
    "projects": "organization",
    "credentials": "organization",
    "execution_environments": "organization",
    "inventory_sources": "inventory",
    "workflow_job_template_nodes": "workflow_job_template",
    "schedules": "unified_job_template",
    "notification_templates": "organization",
}
"""What is deleted with what it refers to."""

UNIQUE_WITH = {
    "credential_types": "kind",
    "inventory_sources": "inventory",
    "workflow_job_template_nodes": "workflow_job_template",
    "schedules": "unified_job_template",
}
"""Within what a name is taken only once, where that is not the organization."""

EMAIL = {
    "host": str,
    "port": int,
    "username": str,
    "password": str,
    "use_tls": bool,
    "use_ssl": bool,
    "sender": str,
    "recipients": list,
}
MANAGED_TYPES = {
    # name -> kind, fields, which of them are secret, which required
    "Amazon Web Services": (
        "cloud",
        "username password security_token",
        "password security_token",
        "username password",
    ),
    "Vault": ("vault", "vault_password vault_id", "vault_password", "vault_password"),
    "Source Control": ("scm", "username password ssh_key_data ssh_key_unlock", "password ssh_key_data", ""),
    "Container Registry": ("registry", "host username password verify_ssl", "password", "host"),
}


class Refused(Exception):
    """What AWX answers with the status 400."""

    def __init__(self, **why: Any) -> None:
        super().__init__(why)
        self.why = why


class Controller:
    """State of an AWX whose project has these playbooks."""

    def __init__(self, playbooks: list[str]) -> None:
        self.playbooks = playbooks
        self.items: dict[str, dict[int, Item]] = {name: {} for name in FIELDS}
        self.surveys: dict[int, Item] = {}
        self.associated: dict[tuple[int, str], list[int]] = {}
        self.secrets: dict[int, Item] = {}
        self.changes: list[str] = []
        """Every request but GET, as method and path."""
        self._last_id = 0
        for name, (kind, fields, secret, required) in MANAGED_TYPES.items():
            inputs = {
                "fields": [
                    {"id": each, "label": each, "type": "string", "secret": each in secret.split()}
                    for each in fields.split()
                ],
                "required": required.split(),
            }
            self._store("credential_types", {"name": name, "kind": kind, "inputs": inputs, "managed": True})

    def named(self, endpoint: str, name: str) -> Item:
        """Return the one object of this name."""
        key = "identifier" if endpoint.endswith("nodes") else "name"
        (found,) = [item for item in self.items[endpoint].values() if item[key] == name]
        return found

    def names(self, endpoint: str) -> set[str]:
        """Return the names of all objects that were made."""
        return {
            str(item.get("name", item.get("identifier")))
            for item in self.items[endpoint].values()
            if not item.get("managed")
        }

    def application(self, environ: Any, start_response: Any) -> Any:
        """Answer a request (WSGI)."""
        request = Request(environ)
        try:
            body, status = self._answer(request)
        except Refused as refused:
            body, status = refused.why, 400
        response = Response(
            "" if status == 204 else json.dumps(body),
            status,
            {"X-API-Product-Name": "AWX", "X-API-Product-Version": "24.6.1"},
            content_type="application/json",
        )
        return response(environ, start_response)

    def _answer(self, request: Request) -> tuple[Any, int]:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return {"detail": "Authentication credentials were not provided."}, 401
        if request.method != "GET":
            self.changes.append(f"{request.method} {request.path}")
        data = request.get_json() if request.method in {"POST", "PATCH"} else {}
        parts = request.path.removeprefix("/api/v2/").strip("/").split("/")
        answer: tuple[Any, int] = ({"detail": f"Not found: {request.method} {request.path}"}, 404)
        match (request.method, *parts):
            case ("GET", "unified_job_templates"):
                names = ("job_templates", "workflow_job_templates", "projects")
                answer = self._page([item for name in names for item in self._found(name, request)]), 200
            case ("GET", name) if name in FIELDS:
                answer = self._page(self._found(name, request)), 200
            case ("POST", name) if name in FIELDS:
                answer = self._shown(name, self._store(name, data)), 201
            case (method, name, key) if name in FIELDS:
                answer = self._one(method, name, int(key), data)
            case (method, name, key, "survey_spec") if name.endswith("job_templates"):
                answer = self._survey(method, int(key), data)
            case ("GET", name, key, association) if association in ASSOCIATIONS:
                ids = self.associated.get((int(key), association), [])
                answer = self._page([self.items[ASSOCIATIONS[association]][each] for each in ids]), 200
            case ("POST", name, key, association) if association in ASSOCIATIONS:
                answer = self._associate(int(key), association, data)
            case ("POST", "job_templates", key, "launch"):
                answer = self._launch(self.items["job_templates"][int(key)], data)
        return answer

    def _one(self, method: str, name: str, key: int, data: Item) -> tuple[Any, int]:
        if key not in self.items[name]:
            return {"detail": "Not found."}, 404
        match method:
            case "GET":
                return self._shown(name, self.items[name][key]), 200
            case "PATCH":
                return self._shown(name, self._store(name, data, key)), 200
            case "DELETE":
                self._delete(name, key)
                return {}, 202 if name == "inventories" else 204
        return {"detail": f'Method "{method}" not allowed.'}, 405

    def _found(self, name: str, request: Request) -> list[Item]:
        filters = request.args.to_dict()
        filters.pop("page_size", None)
        either = {key.removeprefix("or__"): filters.pop(key) for key in list(filters) if key.startswith("or__")}
        found = [self._shown(name, item) for item in self.items[name].values()]
        for key, value in filters.items():
            field, _, of = key.partition("__")
            if field not in {"id", "name", *FIELDS[name]}:
                raise Refused(detail=f"{name} has no field named '{key}'")
            if of:
                ids = {str(each["id"]) for each in self.items[REFERS[field]].values() if each[of] == value}
                found = [item for item in found if str(item[field]) in ids]
            else:
                found = [item for item in found if str(item.get(field)) == value]
        return [item for item in found if not either or any(str(item.get(k)) == v for k, v in either.items())]

    @staticmethod
    def _page(items: list[Item]) -> Item:
        return {"count": len(items), "next": None, "previous": None, "results": items}

    def _shown(self, name: str, item: Item) -> Item:
        url = f"/api/v2/{name}/{item['id']}/"
        shown = {**item, "url": url, "type": name.removesuffix("s").replace("inventorie", "inventory")}
        shown["related"] = {"survey_spec": f"{url}survey_spec/"} if name.endswith("job_templates") else {}
        shown["summary_fields"] = {}
        if name == "organizations":
            counted = ("inventories", "job_templates", "projects")
            shown["summary_fields"]["related_field_counts"] = {
                each: sum(other["organization"] == item["id"] for other in self.items[each].values())
                for each in counted
            } | {"users": 0, "admins": 0, "teams": 0}
        return shown

    def _store(self, name: str, data: Item, key: int | None = None) -> Item:
        fields = {"name": ... if not name.endswith("nodes") else None, **FIELDS[name]}
        if unknown := set(data) - set(fields) - {"type"}:
            raise Refused(**{each: ["Unknown field."] for each in sorted(unknown)})
        before = self.items[name].get(key or 0, {field: value for field, value in fields.items() if value is not ...})
        item = {**before, **{field: value for field, value in data.items() if field != "type"}}
        if missing := [field for field, value in fields.items() if value is ... and item.get(field) in (None, "")]:
            raise Refused(**{each: ["This field is required."] for each in missing})
        for field, endpoint in REFERS.items():
            if item.get(field) is not None and item[field] not in self.items[endpoint]:
                raise Refused(**{field: [f'Invalid pk "{item[field]}" - object does not exist.']})
        identity = UNIQUE_WITH.get(name, "organization")
        label = "identifier" if name.endswith("nodes") else "name"
        for other in self.items[name].values():
            if other["id"] != key and (other[label], other.get(identity)) == (item[label], item.get(identity)):
                raise Refused(__all__=[f"{name} with this {label} and {identity} already exists."])
        check = getattr(self, f"_check_{name}", None)
        if check:
            check(item, data)
        if key is None:
            self._last_id += 1
            key = self._last_id
        item["id"] = key
        if name == "projects":
            item["scm_revision"] = "0" * 40
        if name == "credentials":
            self._keep_secrets(item)
        self.items[name][key] = item
        return item

    def _delete(self, name: str, key: int) -> None:
        if name == "credential_types" and any(
            item["credential_type"] == key for item in self.items["credentials"].values()
        ):
            raise Refused(detail="Credential types that are in use cannot be deleted")
        del self.items[name][key]
        for (_, association), ids in self.associated.items():
            if ASSOCIATIONS[association] == name and key in ids:
                ids.remove(key)
        for other, field in GOES_WITH.items():
            if REFERS.get(field) == name or (field == "unified_job_template" and name.endswith("job_templates")):
                for item in [each for each in self.items[other].values() if each[field] == key]:
                    self._delete(other, item["id"])
        for items in self.items.values():
            for item in items.values():
                for field, endpoint in REFERS.items():
                    if endpoint == name and item.get(field) == key:
                        item[field] = None

    def _check_job_templates(self, item: Item, _data: Item) -> None:
        project = self.items["projects"].get(item["project"] or 0)
        if project is None:
            raise Refused(project=["Job Templates must have a project assigned."])
        if item["inventory"] is None and not item["ask_inventory_on_launch"]:
            raise Refused(inventory=["You must either set a default value or ask to prompt on launch."])
        if not item["playbook"]:
            raise Refused(playbook=["Must select playbook for project."])
        if not project["allow_override"] and item["playbook"] not in self.playbooks:
            raise Refused(playbook=["Playbook not found for project."])
        item["organization"] = project["organization"]

    def _check_credential_types(self, item: Item, _data: Item) -> None:
        if item["kind"] not in {"cloud", "net"} and not item["managed"]:
            raise Refused(kind=["Must be 'cloud' or 'net'."])
        allowed = {
            "id",
            "label",
            "type",
            "secret",
            "help_text",
            "default",
            "choices",
            "multiline",
            "format",
            "ask_at_runtime",
        }
        fields = item["inputs"].get("fields", [])
        ids = [field["id"] for field in fields]
        if any(set(field) - allowed or "label" not in field for field in fields) or len(set(ids)) < len(ids):
            raise Refused(inputs=["A field is not as the schema of credential types wants it."])
        if set(item["injectors"]) - {"file", "env", "extra_vars"}:
            raise Refused(injectors=["Additional properties are not allowed"])
        known: Item = {**dict.fromkeys(ids, "EXAMPLE"), "tower": {"filename": "EXAMPLE"}}
        jinja = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
        for kind, values in item["injectors"].items():
            for name, text in values.items():
                if kind == "env" and name.startswith("ANSIBLE_"):
                    raise Refused(injectors=[f"Environment variable {name} may affect Ansible configuration"])
                try:
                    jinja.from_string(text).render(known)
                except jinja2.TemplateError as error:
                    raise Refused(injectors=[f"{name} uses an undefined field ({error})"]) from error

    def _check_credentials(self, item: Item, data: Item) -> None:
        inputs = self.items["credential_types"][item["credential_type"]]["inputs"]
        ids = {field["id"] for field in inputs["fields"]}
        if unknown := set(item["inputs"]) - ids:
            raise Refused(inputs=[f"Additional properties are not allowed ({', '.join(sorted(unknown))})"])
        if "inputs" in data and (
            missing := [name for name in inputs.get("required", []) if not item["inputs"].get(name)]
        ):
            raise Refused(inputs={name: [f"required for {item['name']}"] for name in missing})

    def _keep_secrets(self, item: Item) -> None:
        inputs = self.items["credential_types"][item["credential_type"]]["inputs"]
        secret = {field["id"] for field in inputs["fields"] if field.get("secret")}
        kept = self.secrets.setdefault(item["id"], {})
        kept.update({name: value for name, value in item["inputs"].items() if name in secret and value != ENCRYPTED})
        item["inputs"] = {name: ENCRYPTED if name in secret else value for name, value in item["inputs"].items()}

    @staticmethod
    def _check_notification_templates(item: Item, _data: Item) -> None:
        if item["notification_type"] != "email":
            raise Refused(notification_type=["Only email is known here."])
        wanted, given = EMAIL, item["notification_configuration"]
        if missing := [name for name in wanted if name not in given]:
            raise Refused(detail=[f"Missing required fields for Notification Configuration: {missing}."])
        for name, kind in wanted.items():
            if type(given[name]) is not kind:
                raise Refused(detail=[f"Configuration field '{name}' incorrect type, expected {kind.__name__}."])
        if not given["recipients"]:
            raise Refused(detail=["No values specified for field 'recipients'"])

    def _check_schedules(self, item: Item, _data: Item) -> None:
        rule = item["rrule"]
        problems = []
        if len(re.findall(r"DTSTART(;[^:]+)?:[0-9]+T[0-9]+Z?", rule)) != 1:
            problems.append("Valid DTSTART required in rrule.")
        if re.search(r"DTSTART:[0-9]+T[0-9]+ ", rule):
            problems.append("DTSTART cannot be a naive datetime.")
        rules = re.findall(r"RRULE:\S+", rule)
        if not rules:
            problems.append("One or more rule required in rrule.")
        problems += [f"INTERVAL required in rrule: {each}" for each in rules if "INTERVAL" not in each]
        problems += [f"SECONDLY is not supported: {each}" for each in rules if "SECONDLY" in each]
        problems += [f"BYDAY with numeric prefix: {each}" for each in rules if re.search(r"BYDAY=[0-9]", each)]
        if problems:
            raise Refused(rrule=problems)
        self._check_prompts(item, required=True)

    def _check_workflow_job_template_nodes(self, item: Item, _data: Item) -> None:
        self._check_prompts(item, required=False)

    def _check_prompts(self, item: Item, *, required: bool) -> None:
        key = item["unified_job_template"]
        template = self.items["job_templates"].get(key) or self.items["workflow_job_templates"].get(key)
        if template is None:
            raise Refused(unified_job_template=[f'Invalid pk "{key}" - object does not exist.'])
        _, rest, problems = surveys.launch(template, self.surveys.get(key), item.get("extra_data") or {})
        problems = [each for each in problems if required or not each.endswith("value missing")]
        if problems:
            raise Refused(variables_needed_to_start=problems)
        if rest:
            raise Refused(extra_data=[f"Variables {', '.join(rest)} are not allowed on launch."])

    def _survey(self, method: str, key: int, data: Item) -> tuple[Any, int]:
        if method == "POST":
            if problem := next(surveys.spec_problems(data), None):
                raise Refused(error=problem)
            self.surveys[key] = data
        elif method == "DELETE":
            self.surveys.pop(key, None)
        return self.surveys.get(key, {}) if method == "GET" else {}, 200

    def _associate(self, key: int, association: str, data: Item) -> tuple[Any, int]:
        ids = self.associated.setdefault((key, association), [])
        if data.get("disassociate"):
            ids.remove(data["id"])
            return {}, 204
        item = self.items[ASSOCIATIONS[association]][data["id"]]
        if association == "credentials":
            kind = self.items["credential_types"][item["credential_type"]]
            if kind["kind"] not in {"ssh", "vault", "cloud", "net", "kubernetes"}:
                raise Refused(error=f"Cannot assign a Credential of kind `{kind['kind']}`.")
            others = [self.items["credentials"][each]["credential_type"] for each in ids]
            if item["credential_type"] in others:
                raise Refused(error=f"Cannot assign multiple {kind['name']} credentials.")
        ids.append(data["id"])
        return {}, 204

    def _launch(self, template: Item, data: Item) -> tuple[Any, int]:
        variables = data.get("extra_vars", {})
        accepted, rest, problems = surveys.launch(template, self.surveys.get(template["id"]), variables)
        if problems:
            raise Refused(variables_needed_to_start=problems)
        ignored: Item = {"extra_vars": rest} if rest else {}
        for name in ("job_type", "inventory", "limit", "diff_mode"):
            if name in data and data[name] != template.get(name) and not template.get(f"ask_{name}_on_launch"):
                ignored[name] = data[name]
        extra_vars = {**json.loads(template["extra_vars"] or "{}"), **accepted}
        return {"job": 1, "ignored_fields": ignored, "extra_vars": json.dumps(extra_vars)}, 201


@contextmanager
def serve(controller: Controller) -> Iterator[str]:
    """Serve a controller on a free port of the loopback interface; yield its address."""
    server = make_server("127.0.0.1", 0, controller.application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()

#!/usr/bin/python
"""Ansible module: the SNS topic that alarms are published to, and who is told."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alarm_topic
short_description: Keep the SNS topic of a platform's alarms, and its subscriptions
description:
  - Alarms of the platform and budgets of the account may publish to the topic, over TLS.
  - Mail and web addresses that are subscribed and not listed are taken out. Subscriptions of other kinds, and that of
    Amazon Q Developer in chat applications, are left alone.
  - Whoever is subscribed has to confirm it once; the module warns as long as somebody has not.
options:
  name:
    description: Name of the topic.
    type: str
    required: true
  account_id:
    description: Account of the topic.
    type: str
    required: true
  emails:
    description: Mail addresses to tell.
    type: list
    elements: str
    default: []
  webhooks:
    description:
      - Web addresses (https) to tell, of services that confirm a subscription of SNS by themselves.
      - Never shown, because many are secrets; a plan names the host only.
    type: list
    elements: str
    default: []
  kms_key:
    description:
      - Id or ARN of a customer managed key that encrypts the topic; it must let C(cloudwatch.amazonaws.com) use it.
      - Empty for none. The key C(alias/aws/sns) does not let CloudWatch use it.
    type: str
    default: ""
extends_documentation_fragment:
  - platform
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the topic of the alarms
  alarm_topic:
    platform: dagster-production
    name: dagster-production-alarms
    account_id: "123456789012"
    emails: [oncall@example.com]
"""

RETURN = r"""
topic_arn:
  description: ARN of the topic.
  returned: always
  type: str
unconfirmed:
  description: Subscriptions that nobody has confirmed yet.
  returned: when state is present
  type: list
changes:
  description: One entry per changed resource, with action, kind, name, before and after.
  returned: always
  type: list
"""

from typing import Any

from ansible.module_utils.aws_alarms import ensure_topic, remove_topic, topic_arn, topic_policy
from ansible.module_utils.aws_plan import Plan
from ansible.module_utils.aws_run import run


def work(module: Any, plan: Plan) -> dict[str, Any]:
    """Bring the topic to the wanted state."""
    arguments = module.params
    sns = module.client("sns")
    platform, account = arguments["platform"], arguments["account_id"]
    arn = topic_arn(module.region, account, arguments["name"])
    if arguments["state"] == "absent":
        remove_topic(sns, platform, arn, plan)
        return {"topic_arn": arn}
    unconfirmed = ensure_topic(
        sns,
        platform,
        arn,
        plan,
        policy=topic_policy(module.region, account, platform, arn),
        key=arguments["kms_key"],
        emails=arguments["emails"],
        webhooks=arguments["webhooks"],
        tags=arguments["resource_tags"],
    )
    if unconfirmed:
        module.warn(
            f"Not told of alarms yet: {', '.join(unconfirmed)}. SNS has sent each a message with a link to confirm; "
            "after two days it forgets them, and the next run of site.yml sends another."
        )
    return {"topic_arn": arn, "unconfirmed": unconfirmed}


def main() -> None:
    """Entry point of Ansible."""
    run(
        {
            "name": {"type": "str", "required": True},
            "account_id": {"type": "str", "required": True},
            "emails": {"type": "list", "elements": "str", "default": []},
            "webhooks": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "kms_key": {"type": "str", "default": "", "no_log": False},
        },
        work,
    )


if __name__ == "__main__":
    main()

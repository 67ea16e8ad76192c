"""A platform's life with IAM enforced: whoever deploys holds the printed policies and nothing else.

site.yml, deploy_dags.yml, dags_history.yml and destroy.yml run with exactly what `make deployer-policy` prints, and
fail where a single action is missing. What the deployer, the platform's roles and its user must not do is tried, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.integration.deployer.identity import Policies, as_user, enforced, printed_policies, read_keys, without
from tests.integration.emulated import ACCOUNT, REGION, Emulator, emulator, recap

NAME, BUCKET = "dagster-local", f"dagster-local-dags-{ACCOUNT}"
WITH_USER = ("-e", "dags_credentials=iam_user")
REFUSALS = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
POINTER = "releases/current"


@dataclass(frozen=True)
class Account:
    """An emulated account that enforces IAM, with somebody else's things in it."""

    aws: Emulator
    policies: Policies
    deployer: tuple[str, ...]
    """Arguments of a playbook that runs with all of the policies."""
    publisher: tuple[str, ...]
    """The same with that for DAGs only."""
    others: dict[str, str]
    """Ids of what is somebody else's."""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with emulator(tmp_path_factory.mktemp("account")) as aws:
        policies = printed_policies(aws, *WITH_USER)
        deployer = as_user(aws, "deployer", policies)
        publisher = as_user(aws, "publisher", {"dags": policies["dags"]})
        with enforced(aws.url):
            yield Account(aws, policies, deployer, publisher, make_others(aws))


def make_others(aws: Emulator) -> dict[str, str]:
    """Make what belongs to somebody else in the account."""
    ec2, s3 = aws.client("ec2"), aws.client("s3")
    vpc = ec2.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.60.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="theirs", Description="theirs", VpcId=vpc)["GroupId"]
    s3.create_bucket(Bucket="somebody-elses")
    s3.put_object(Bucket="somebody-elses", Key="dags/x.py", Body=b"")
    aws.client("secretsmanager").create_secret(Name="somebody-elses", SecretString="not-a-real-secret")
    aws.client("logs").create_log_group(logGroupName="/ecs/somebody-elses/webserver")
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    aws.client("iam").create_role(RoleName="somebody-elses", AssumeRolePolicyDocument=json.dumps(trust))
    aws.client("ecs").create_cluster(clusterName="somebody-elses")
    system = aws.client("efs").create_file_system(CreationToken="theirs")["FileSystemId"]
    return {"vpc": vpc, "subnet": subnet, "group": group, "file system": system}


def refused(act: Callable[[], Any]) -> str:
    """Return what AWS says when it refuses; fail if it does not."""
    try:
        answer = act()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in REFUSALS, error
        return str(error)
    # Of several objects, each is refused for itself.
    assert isinstance(answer, dict), answer
    codes = {item["Code"] for item in answer.get("Errors", [])}
    assert codes, "it was allowed"
    assert codes <= REFUSALS, answer
    return str(answer["Errors"])


# -- The deployer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "action"),
    [
        ("secrets_manager", "secretsmanager:TagResource"),
        ("s3", "s3:PutBucketPolicy"),
        ("vpc", "ec2:CreateTags"),
    ],
)
def test_without_a_single_action_it_fails_and_names_it(account: Account, tag: str, action: str) -> None:
    lacking = as_user(account.aws, f"lacking-{tag}", without(account.policies, action))
    done = account.aws.run("site.yml", "--tags", tag, *WITH_USER, *lacking)
    assert done.returncode == 2, done.stdout
    assert "AWS refused" in done.stdout
    # S3 says which request it refuses, the others which action is missing.
    assert action.removeprefix("s3:") in done.stdout


def test_who_deploys_dags_cannot_make_a_platform(account: Account) -> None:
    done = account.aws.run("site.yml", "--tags", "cloudwatch_logs", *WITH_USER, *account.publisher)
    assert done.returncode == 2
    assert "is not authorized to perform: ecs:DescribeClusters" in done.stdout


@pytest.fixture(scope="module")
def platform(account: Account) -> Account:
    """What site.yml makes with exactly these policies, also after runs that ended in the middle."""
    account.aws.succeed("site.yml", *WITH_USER, *account.deployer)
    return account


@pytest.fixture(scope="module")
def release(platform: Account, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Deploy with the policy for that and no other; return the arguments."""
    tree = tmp_path_factory.mktemp("tree") / "dags"
    (tree / "main").mkdir(parents=True)
    for file in (tree / "__init__.py", tree / "main" / "__init__.py"):
        file.write_text("", encoding="utf-8")
    arguments = ("-e", f"dags_path={tree}", "-e", "dag_release_validate=false", *platform.publisher)
    assert recap(platform.aws.succeed("deploy_dags.yml", *arguments))["changed"] == 1
    return arguments


def test_dags_are_deployed_with_the_policy_for_that(platform: Account, release: tuple[str, ...]) -> None:
    assert recap(platform.aws.succeed("deploy_dags.yml", *release))["changed"] == 0
    assert "main" in platform.aws.succeed("dags_history.yml", *platform.publisher).stdout


REPOSITORIES = {name: {"locations": [name]} for name in ("finance", "sales")}
REPOSITORY_FORBIDDEN: dict[str, Callable[[Any], Any]] = {
    "write a file of the platform's own": lambda s3: s3.put_object(Bucket=BUCKET, Key="dags/main/x.py", Body=b""),
    "write a file of another repository": lambda s3: s3.put_object(Bucket=BUCKET, Key="dags/sales/x.py", Body=b""),
    "write a file of a location whose name begins alike": lambda s3: s3.put_object(
        Bucket=BUCKET, Key="dags/finance_2/x.py", Body=b""
    ),
    "write a file beside all locations": lambda s3: s3.put_object(Bucket=BUCKET, Key="dags/x.py", Body=b""),
    "hide a file of another": lambda s3: s3.delete_object(Bucket=BUCKET, Key="dags/main/__init__.py"),
    "read a file of another": lambda s3: s3.get_object(Bucket=BUCKET, Key="dags/main/__init__.py"),
    "hide the pointer": lambda s3: s3.delete_object(Bucket=BUCKET, Key=POINTER),
    "write beside releases and DAGs": lambda s3: s3.put_object(Bucket=BUCKET, Key="compute-logs/x", Body=b""),
}


def test_a_repository_deploys_with_the_policy_for_its_own_part(
    platform: Account, release: tuple[str, ...], tmp_path: Path
) -> None:
    """Publish, publish again, take something away, roll back, look at the history; nothing beyond its own files."""
    aws, known = platform.aws, ("-e", json.dumps({"dags_repositories": REPOSITORIES}))
    policies = printed_policies(aws, *WITH_USER, *known)
    pipeline = as_user(aws, "finance", {"dags-finance": policies["dags-finance"]})
    (tmp_path / "finance").mkdir()
    (tmp_path / "finance/__init__.py").write_text("", encoding="utf-8")
    extra = tmp_path / "finance/extra.py"
    extra.write_text("x = 1\n", encoding="utf-8")
    given = {"dags_path": str(tmp_path), "dags_repository": "finance", "dag_release_validate": False}
    arguments = ("-e", json.dumps(given), *known, *pipeline)
    assert recap(aws.succeed("deploy_dags.yml", *arguments))["changed"] == 1
    assert recap(aws.succeed("deploy_dags.yml", *arguments))["changed"] == 0
    extra.unlink()
    assert recap(aws.succeed("deploy_dags.yml", *arguments))["changed"] == 1
    assert recap(aws.succeed("rollback_dags.yml", *arguments))["changed"] == 1
    assert "current, rollback" in aws.succeed("dags_history.yml", *arguments).stdout
    assert recap(aws.succeed("deploy_dags.yml", *release))["changed"] == 0, "the platform's own is as it was"

    s3 = Grant(*read_keys(aws.state / "finance.cfg")).clients(aws)("s3")
    versions = aws.client("s3").list_object_versions(Bucket=BUCKET, Prefix=POINTER)["Versions"]
    forbidden = REPOSITORY_FORBIDDEN | {
        "forget what was served": lambda s3: s3.delete_object(
            Bucket=BUCKET, Key=POINTER, VersionId=versions[-1]["VersionId"]
        )
    }
    for what, act in forbidden.items():
        try:
            refused(lambda act=act: act(s3))  # type: ignore[misc] # bound at once
        except AssertionError as error:
            pytest.fail(f"the repository may {what}: {error}")


DEPLOYER_FORBIDDEN: dict[str, Callable[[Any, dict[str, str]], Any]] = {
    "make an untagged VPC": lambda c, _: c("ec2").create_vpc(CidrBlock="10.70.0.0/16"),
    "remove somebody else's VPC": lambda c, o: c("ec2").delete_vpc(VpcId=o["vpc"]),
    "claim somebody else's VPC": lambda c, o: c("ec2").create_tags(
        Resources=[o["vpc"]], Tags=[{"Key": "dagster-platform", "Value": NAME}]
    ),
    "open somebody else's security group": lambda c, o: c("ec2").authorize_security_group_ingress(
        GroupId=o["group"], IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    ),
    "remove somebody else's security group": lambda c, o: c("ec2").delete_security_group(GroupId=o["group"]),
    "run an instance in somebody else's subnet": lambda c, o: c("ec2").run_instances(
        ImageId="ami-12c6146b",
        MinCount=1,
        MaxCount=1,
        SubnetId=o["subnet"],
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "dagster-platform", "Value": NAME}]},
        ],
    ),
    "read somebody else's bucket": lambda c, _: c("s3").get_object(Bucket="somebody-elses", Key="dags/x.py"),
    "remove somebody else's bucket": lambda c, _: c("s3").delete_bucket(Bucket="somebody-elses"),
    "read somebody else's secret": lambda c, _: c("secretsmanager").get_secret_value(SecretId="somebody-elses"),
    "list all secrets": lambda c, _: c("secretsmanager").list_secrets(),
    "remove somebody else's logs": lambda c, _: c("logs").delete_log_group(
        logGroupName="/ecs/somebody-elses/webserver"
    ),
    "remove somebody else's file system": lambda c, o: c("efs").delete_file_system(FileSystemId=o["file system"]),
    "make an untagged file system": lambda c, _: c("efs").create_file_system(CreationToken="x"),
    "remove somebody else's cluster": lambda c, _: c("ecs").delete_cluster(cluster="somebody-elses"),
    "run a task": lambda c, _: c("ecs").run_task(cluster=NAME, taskDefinition=f"{NAME}-daemon"),
    "remove another database": lambda c, _: c("rds").delete_db_instance(
        DBInstanceIdentifier="another", SkipFinalSnapshot=True
    ),
    "take its own policies for another user": lambda c, _: c("iam").put_user_policy(
        UserName="deployer", PolicyName="all", PolicyDocument="{}"
    ),
    "make another user": lambda c, _: c("iam").create_user(UserName="another"),
    "make keys for another user": lambda c, _: c("iam").create_access_key(UserName="publisher"),
    "change another role": lambda c, _: c("iam").put_role_policy(
        RoleName="somebody-elses", PolicyName="all", PolicyDocument="{}"
    ),
    "give another role to tasks": lambda c, _: c("ecs").register_task_definition(
        family=f"{NAME}-webserver",
        containerDefinitions=[],
        taskRoleArn=f"arn:aws:iam::{ACCOUNT}:role/somebody-elses",
        tags=[{"key": "dagster-platform", "value": NAME}],
    ),
    "become the task role": lambda c, _: c("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{NAME}-task", RoleSessionName="tried"
    ),
}


def test_what_the_deployer_must_not_do(platform: Account) -> None:
    account = platform
    grant = Grant(*read_keys(account.aws.state / "deployer.cfg"))
    for what, act in DEPLOYER_FORBIDDEN.items():
        try:
            refused(lambda act=act: act(grant.clients(account.aws), account.others))  # type: ignore[misc] # bound at once
        except AssertionError as error:
            pytest.fail(f"the deployer may {what}: {error}")


# -- The platform's own identities -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Grant:
    """Credentials; the token is None for those of a user."""

    key: str
    secret: str
    token: str | None = None

    def clients(self, aws: Emulator) -> Callable[[str], Any]:
        """Return a function that makes boto3 clients."""
        session: Any = boto3

        def client(service: str) -> Any:
            return session.client(
                service,
                region_name=REGION,
                endpoint_url=aws.url,
                aws_access_key_id=self.key,
                aws_secret_access_key=self.secret,
                aws_session_token=self.token,
            )

        return client


def identity(account: Account, name: str) -> Callable[[str], Any]:
    """Return a function that makes clients as ECS would for the role, or with the user's keys."""
    if name == "user":
        answer = account.aws.client("secretsmanager").get_secret_value(SecretId=f"{NAME}/s3-user")
        keys = json.loads(answer["SecretString"])
        return Grant(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]).clients(account.aws)
    role = f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{name}"
    made = account.aws.client("sts").assume_role(RoleArn=role, RoleSessionName="tried")["Credentials"]
    return Grant(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"]).clients(account.aws)


Action = Callable[[Callable[[str], Any]], Any]
EVENTS = [{"timestamp": 1, "message": "x"}]

ALLOWED: dict[str, dict[str, Action]] = {
    "execution": {
        "log in to ECR": lambda c: c("ecr").get_authorization_token(),
        "see an image": lambda c: c("ecr").batch_get_image(repositoryName=NAME, imageIds=[{"imageTag": "x"}]),
        "begin a log": lambda c: c("logs").create_log_stream(logGroupName=f"/ecs/{NAME}/daemon", logStreamName="x"),
        "write a log": lambda c: c("logs").put_log_events(
            logGroupName=f"/ecs/{NAME}/daemon", logStreamName="x", logEvents=EVENTS
        ),
        "read the database's secret": lambda c: c("secretsmanager").get_secret_value(SecretId=f"{NAME}/database"),
        "read the user's keys": lambda c: c("secretsmanager").get_secret_value(SecretId=f"{NAME}/s3-user"),
    },
    "task": {
        "read the pointer": lambda c: c("s3").get_object(Bucket=BUCKET, Key=POINTER),
        "keep output": lambda c: c("s3").put_object(Bucket=BUCKET, Key="compute-logs/x", Body=b""),
        "read output": lambda c: c("s3").get_object(Bucket=BUCKET, Key="compute-logs/x"),
        "keep data": lambda c: c("s3").put_object(Bucket=BUCKET, Key="data/x", Body=b""),
        "remove data": lambda c: c("s3").delete_object(Bucket=BUCKET, Key="data/x"),
        "list data": lambda c: c("s3").list_objects_v2(Bucket=BUCKET, Prefix="data/"),
        "read the database's secret": lambda c: c("secretsmanager").get_secret_value(SecretId=f"{NAME}/database"),
    },
    "user": {
        "read the pointer": lambda c: c("s3").get_object(Bucket=BUCKET, Key=POINTER),
        "read a file": lambda c: c("s3").get_object(Bucket=BUCKET, Key="dags/main/__init__.py"),
    },
}

EVERYBODY_FORBIDDEN: dict[str, Action] = {
    "move the pointer": lambda c: c("s3").put_object(Bucket=BUCKET, Key=POINTER, Body=b"{}"),
    "write a manifest": lambda c: c("s3").put_object(Bucket=BUCKET, Key="releases/0123456789abcdef.json", Body=b"{}"),
    "write a file": lambda c: c("s3").put_object(Bucket=BUCKET, Key="dags/main/__init__.py", Body=b""),
    "copy a file": lambda c: c("s3").copy_object(
        Bucket=BUCKET, Key="dags/main/x.py", CopySource={"Bucket": BUCKET, "Key": "dags/main/__init__.py"}
    ),
    "delete the pointer": lambda c: c("s3").delete_object(Bucket=BUCKET, Key=POINTER),
    "delete a file": lambda c: c("s3").delete_object(Bucket=BUCKET, Key="dags/main/__init__.py"),
    "delete files together": lambda c: c("s3").delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": POINTER}]}),
    "delete a version": lambda c: c("s3").delete_object(Bucket=BUCKET, Key=POINTER, VersionId="null"),
    "read another prefix": lambda c: c("s3").get_object(Bucket=BUCKET, Key="secret/plans.txt"),
    "read another bucket": lambda c: c("s3").get_object(Bucket="somebody-elses", Key="dags/x.py"),
    "write to another bucket": lambda c: c("s3").put_object(Bucket="somebody-elses", Key="data/x", Body=b""),
    "list another bucket": lambda c: c("s3").list_objects_v2(Bucket="somebody-elses"),
    "list all buckets": lambda c: c("s3").list_buckets(),
    "make a bucket": lambda c: c("s3").create_bucket(Bucket="one-of-its-own"),
    "delete the bucket": lambda c: c("s3").delete_bucket(Bucket=BUCKET),
    "turn versioning off": lambda c: c("s3").put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "change the bucket's policy": lambda c: c("s3").put_bucket_policy(Bucket=BUCKET, Policy="{}"),
    "read another secret": lambda c: c("secretsmanager").get_secret_value(SecretId="somebody-elses"),
    "list secrets": lambda c: c("secretsmanager").list_secrets(),
    "change the database's secret": lambda c: c("secretsmanager").put_secret_value(
        SecretId=f"{NAME}/database", SecretString="{}"
    ),
    "delete the database's secret": lambda c: c("secretsmanager").delete_secret(SecretId=f"{NAME}/database"),
    "list users": lambda c: c("iam").list_users(),
    "make a user": lambda c: c("iam").create_user(UserName="another"),
    "make keys": lambda c: c("iam").create_access_key(UserName=f"{NAME}-s3"),
    "widen its role": lambda c: c("iam").put_role_policy(
        RoleName=f"{NAME}-task", PolicyName="all", PolicyDocument="{}"
    ),
    "attach a policy": lambda c: c("iam").attach_role_policy(
        RoleName=f"{NAME}-task", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
    ),
    "change who may take a role": lambda c: c("iam").update_assume_role_policy(
        RoleName=f"{NAME}-execution", PolicyDocument="{}"
    ),
    "become the task role": lambda c: c("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{NAME}-task", RoleSessionName="tried"
    ),
    "become the execution role": lambda c: c("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{NAME}-execution", RoleSessionName="tried"
    ),
    "become another role": lambda c: c("sts").assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/somebody-elses", RoleSessionName="tried"
    ),
    "register a task definition": lambda c: c("ecs").register_task_definition(
        family=f"{NAME}-daemon", containerDefinitions=[], taskRoleArn=f"arn:aws:iam::{ACCOUNT}:role/{NAME}-task"
    ),
    "run a task": lambda c: c("ecs").run_task(cluster=NAME, taskDefinition=f"{NAME}-daemon"),
    "stop a task": lambda c: c("ecs").stop_task(cluster=NAME, task="x"),
    "enter a task": lambda c: c("ecs").execute_command(cluster=NAME, task="x", command="sh", interactive=True),
    "change a service": lambda c: c("ecs").update_service(cluster=NAME, service="webserver", desiredCount=0),
    "list clusters": lambda c: c("ecs").list_clusters(),
    "remove the cluster": lambda c: c("ecs").delete_cluster(cluster=NAME),
    "see databases": lambda c: c("rds").describe_db_instances(),
    "change the database": lambda c: c("rds").modify_db_instance(
        DBInstanceIdentifier=NAME, MasterUserPassword="not-a-real-password"
    ),
    "remove the database": lambda c: c("rds").delete_db_instance(DBInstanceIdentifier=NAME, SkipFinalSnapshot=True),
    "see instances": lambda c: c("ec2").describe_instances(),
    "run an instance": lambda c: c("ec2").run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1),
    "open a security group": lambda c: c("ec2").authorize_security_group_ingress(
        GroupId="sg-1", IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    ),
    "see file systems": lambda c: c("efs").describe_file_systems(),
    "remove a file system": lambda c: c("efs").delete_file_system(FileSystemId="fs-0123456789abcdef0"),
    "open a file system": lambda c: c("efs").put_file_system_policy(FileSystemId="fs-0123456789abcdef0", Policy="{}"),
    "remove the images": lambda c: c("ecr").delete_repository(repositoryName=NAME, force=True),
    "put an image": lambda c: c("ecr").put_image(repositoryName=NAME, imageManifest="{}", imageTag="x"),
    "write another log": lambda c: c("logs").put_log_events(
        logGroupName="/ecs/somebody-elses/webserver", logStreamName="x", logEvents=EVENTS
    ),
    "read logs": lambda c: c("logs").filter_log_events(logGroupName=f"/ecs/{NAME}/daemon"),
    "remove logs": lambda c: c("logs").delete_log_group(logGroupName=f"/ecs/{NAME}/daemon"),
    "remove a load balancer": lambda c: c("elbv2").delete_load_balancer(
        LoadBalancerArn=f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:loadbalancer/app/{NAME}/1"
    ),
    "scale": lambda c: c("application-autoscaling").deregister_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=f"service/{NAME}/webserver",
        ScalableDimension="ecs:service:DesiredCount",
    ),
    "read parameters": lambda c: c("ssm").get_parameter(Name="/aws/service/x"),
}

FORBIDDEN: dict[str, dict[str, Action]] = {
    "execution": {
        "read the pointer": lambda c: c("s3").get_object(Bucket=BUCKET, Key=POINTER),
        "list the bucket": lambda c: c("s3").list_objects_v2(Bucket=BUCKET),
        "read data": lambda c: c("s3").get_object(Bucket=BUCKET, Key="data/x"),
        "keep data": lambda c: c("s3").put_object(Bucket=BUCKET, Key="data/x", Body=b""),
        "pull another image": lambda c: c("ecr").batch_get_image(
            repositoryName="another", imageIds=[{"imageTag": "x"}]
        ),
    },
    "task": {
        "write its log itself": lambda c: c("logs").put_log_events(
            logGroupName=f"/ecs/{NAME}/daemon", logStreamName="x", logEvents=EVENTS
        ),
        "log in to ECR": lambda c: c("ecr").get_authorization_token(),
        "enter through Session Manager": lambda c: c("ssm").start_session(Target="x"),
    },
    "user": {
        "read data": lambda c: c("s3").get_object(Bucket=BUCKET, Key="data/x"),
        "keep output": lambda c: c("s3").put_object(Bucket=BUCKET, Key="compute-logs/x", Body=b""),
        "read the database's secret": lambda c: c("secretsmanager").get_secret_value(SecretId=f"{NAME}/database"),
        "read its own keys again": lambda c: c("secretsmanager").get_secret_value(SecretId=f"{NAME}/s3-user"),
        "log in to ECR": lambda c: c("ecr").get_authorization_token(),
    },
}


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.usefixtures("release")
def test_what_an_identity_may_do_and_what_not(platform: Account, name: str) -> None:
    client = identity(platform, name)
    for what, act in ALLOWED[name].items():
        try:
            act(client)
        except ClientError as error:
            pytest.fail(f"{name} cannot {what}: {error}")
    for what, act in (EVERYBODY_FORBIDDEN | FORBIDDEN[name]).items():
        try:
            refused(lambda act=act: act(client))  # type: ignore[misc] # bound at once
        except AssertionError as error:
            pytest.fail(f"{name} may {what}: {error}")


# -- The end ---------------------------------------------------------------------------------------------------


def test_destroy_passes_with_exactly_these_policies(platform: Account) -> None:
    """The last of this file: nothing is left then, but what is somebody else's."""
    account = platform
    confirmed = ("-e", f"confirm_destroy={NAME}", "-e", json.dumps({"s3_destroy_contents": True}))
    account.aws.succeed("playbooks/destroy.yml", *WITH_USER, *account.deployer, *confirmed)
    vpcs = account.aws.client("ec2").describe_vpcs(Filters=[{"Name": "tag-key", "Values": ["dagster-platform"]}])
    assert vpcs["Vpcs"] == []
    buckets = [item["Name"] for item in account.aws.client("s3").list_buckets()["Buckets"]]
    assert buckets == ["somebody-elses"]

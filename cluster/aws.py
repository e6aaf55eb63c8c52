"""Prepares an AWS account for cluster.yaml: ``python -m cluster.aws prepare --bucket NAME``."""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

NAME = "borderline"
POLICY = Path(__file__).with_name("iam-policy.json")
POLICY_BUCKET = "example-bucket"
"""Placeholder for the bucket in the policy file."""
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""SSM parameter of AWS's current image with the NVIDIA driver and Python 3.12."""
OWN_ADDRESS = "https://checkip.amazonaws.com"
# The head may only start, tag and terminate its nodes.
SCALING = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["ec2:Describe*", "ec2:RunInstances", "ec2:CreateTags"],
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:TerminateInstances", "ec2:StopInstances", "ec2:StartInstances"],
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": NAME}},
        },
    ],
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


class Account:
    """An AWS account in a region; its methods create or update resources.

    Args:
        session: boto3 session with account and region.
    """

    def __init__(self, session: boto3.Session) -> None:
        self._ec2 = session.client("ec2")
        self._iam = session.client("iam")
        self._ssm = session.client("ssm")

    def find_image(self) -> str:
        """Return the id of AWS's current image."""
        return str(self._ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"])

    def security_group(self, ssh_from: str) -> str:
        """Return a security group that allows internal traffic, and SSH from one network.

        Args:
            ssh_from: the network; earlier rules are removed.
        """
        vpc = self._ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
        if not vpc["Vpcs"]:
            raise LookupError(
                "the region has no default VPC; create one: aws ec2 create-default-vpc"
            )
        where = vpc["Vpcs"][0]["VpcId"]
        filters = [{"Name": "group-name", "Values": [NAME]}, {"Name": "vpc-id", "Values": [where]}]
        found = self._ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
        if found:
            group, rules = found[0]["GroupId"], found[0]["IpPermissions"]
            if rules:
                self._ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
        else:
            group = self._ec2.create_security_group(
                GroupName=NAME, VpcId=where, Description="Borderline: SSH from one address"
            )["GroupId"]
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
        self._ec2.authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
                ssh | _network(ssh_from),
            ],
        )
        return str(group)

    def profile(self, name: str, policies: dict[str, Any]) -> str:
        """Return the ARN of an instance profile with these policies."""
        _create(self._iam.create_role, RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
        for title, policy in policies.items():
            self._iam.put_role_policy(
                RoleName=name, PolicyName=title, PolicyDocument=json.dumps(policy)
            )
        _create(self._iam.create_instance_profile, InstanceProfileName=name)
        there = self._iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        if not there["Roles"]:
            self._iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        return str(there["Arn"])

    def launch_template(self, name: str, image: str, group: str, profile: str) -> None:
        """Create a launch template, or a new default version of it."""
        data = {
            "ImageId": image,
            "SecurityGroupIds": [group],
            "IamInstanceProfile": {"Arn": profile},
        }
        called = {"LaunchTemplateName": name}
        try:
            self._ec2.create_launch_template(**called, LaunchTemplateData=data)
        except ClientError as error:
            if not _exists(error):
                raise
            made = self._ec2.create_launch_template_version(**called, LaunchTemplateData=data)
            version = made["LaunchTemplateVersion"]["VersionNumber"]
            self._ec2.modify_launch_template(**called, DefaultVersion=str(version))

    def allow_pass_role(self, role: str, worker: str) -> None:
        """Allow the head to pass only the workers' role to its nodes."""
        arn = self._iam.get_role(RoleName=worker)["Role"]["Arn"]
        allowed = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": arn}
        document = {"Version": "2012-10-17", "Statement": [allowed]}
        self._iam.put_role_policy(
            RoleName=role, PolicyName="pass-role", PolicyDocument=json.dumps(document)
        )


def _network(text: str) -> dict[str, Any]:
    if ipaddress.ip_network(text).version == 6:
        return {"Ipv6Ranges": [{"CidrIpv6": text}]}
    return {"IpRanges": [{"CidrIp": text}]}


def _exists(error: ClientError) -> bool:
    code = error.response["Error"]["Code"]
    return "AlreadyExists" in code or code == "EntityAlreadyExists"


def _create(make: Any, **arguments: Any) -> None:
    try:
        make(**arguments)
    except ClientError as error:
        if not _exists(error):
            raise


def bucket_policy(bucket: str) -> Any:
    """Return the IAM policy of nodes for a bucket."""
    return json.loads(POLICY.read_text(encoding="utf-8").replace(POLICY_BUCKET, bucket))


def prepare(account: Account, bucket: str, ssh_from: str, image: str | None) -> str:
    """Create or update the resources of cluster.yaml, and return the image.

    Args:
        account: the account.
        bucket: bucket of the searches.
        ssh_from: network that may connect by SSH.
        image: image of the nodes; None for AWS's current one.
    """
    image = image or account.find_image()
    group = account.security_group(ssh_from)
    storage = bucket_policy(bucket)
    head, worker = f"{NAME}-head", f"{NAME}-worker"
    of_worker = account.profile(worker, {"storage": storage})
    of_head = account.profile(head, {"storage": storage, "scaling": SCALING})
    account.allow_pass_role(head, worker)
    account.launch_template(head, image, group, of_head)
    account.launch_template(worker, image, group, of_worker)
    return image


def _ssh_from(given: str | None) -> str:
    if given is None:
        with urllib.request.urlopen(OWN_ADDRESS, timeout=10) as answer:
            given = answer.read().decode("ascii").strip()
    network = ipaddress.ip_network(given)
    if network.prefixlen == 0:
        raise ValueError(f"{network} allows everybody")
    return str(network)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.aws", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("command", choices=["prepare"])
    parser.add_argument("--bucket", required=True, help="name of the bucket of the searches")
    parser.add_argument("--ssh-from", help="your address or network (default: detected)")
    parser.add_argument(
        "--image", help="ami-... (default: AWS's current image with the NVIDIA driver)"
    )
    parser.add_argument("--region", default="us-east-1", help="as in cluster.yaml")
    given = parser.parse_args(arguments)
    try:
        network = _ssh_from(given.ssh_from)
    except (OSError, ValueError) as error:
        print(f"aws: --ssh-from = {given.ssh_from}: {error}; give 203.0.113.7", file=sys.stderr)  # noqa: T201
        return 2
    try:
        account = Account(boto3.Session(region_name=given.region))
        image = prepare(account, given.bucket, network, given.image)
    except (BotoCoreError, ClientError, LookupError) as error:
        print(f"aws: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return 2
    print(f"{given.region}: image {image}, SSH from {network}, bucket {given.bucket}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Walks through the service with the client that openapi-python-client generates, and prints what it was answered."""
import json
import os

from irsa_client import AuthenticatedClient, Client
from irsa_client.api.proxy_roles import get_trust_status
from irsa_client.api.role_mappings import update_role_mapping
from irsa_client.api.roles import get_my_role_mappings, map_iam_roles_to_pod_sa
from irsa_client.models import (
    GetMyRoleMappingsResponse401,
    MapIamRolesToPodSaResponse404,
    MappingPreview,
    RoleMappingUpdate,
    RunRequest,
    StoredMappings,
    TrustStatus,
)

url, certificate = os.environ["IRSA_URL"], os.environ["IRSA_CA"]
admin = AuthenticatedClient(base_url=url, token=os.environ["ADMIN_TOKEN"], verify_ssl=certificate)
user = AuthenticatedClient(base_url=url, token=os.environ["USER_TOKEN"], verify_ssl=certificate)
proxy = os.environ["PROXY_ROLE"]
mapping = RoleMappingUpdate(domino_org="data-science", iam_role_arn=os.environ["TARGET_ROLE"], proxy_iam_role_arn=proxy)

preview = update_role_mapping.sync(client=admin, body=mapping, dry_run=True)
assert isinstance(preview, MappingPreview), preview
stored = update_role_mapping.sync(client=admin, body=mapping)
assert isinstance(stored, StoredMappings), stored
config = map_iam_roles_to_pod_sa.sync(client=user, body=RunRequest(run_id=os.environ["RUN_ID"]))
assert isinstance(config, str), config
missing = map_iam_roles_to_pod_sa.sync(client=user, body=RunRequest(run_id="0" * 24))
assert isinstance(missing, MapIamRolesToPodSaResponse404), missing
status = get_trust_status.sync(client=admin, proxy_iam_role_arn=proxy)
assert isinstance(status, TrustStatus), status
nobody = get_my_role_mappings.sync(client=Client(base_url=url, verify_ssl=certificate))
assert isinstance(nobody, GetMyRoleMappingsResponse401), nobody

print(json.dumps({
    "preview_fits": preview.fits,
    "stored": [entry.proxy_iam_role_arn for entry in stored.role_data],
    "profile": config.splitlines()[1],
    "missing_run": str(missing.code),
    "members": [role.members[0].service_account for role in status.proxy_roles if role.proxy_iam_role_arn == proxy],
    "nobody": str(nobody.code),
}))

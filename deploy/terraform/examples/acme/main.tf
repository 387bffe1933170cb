# Two accounts: the cluster's, with the service and the proxy roles, and one with the data, with the target roles.
# Three roles on one bucket; `acme-read-bucket-role` is reached through a pool of two proxy roles.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.29"
    }
  }
}

# With these lines Terraform stops when the credentials at hand are another account's.
provider "aws" {
  region              = var.region
  allowed_account_ids = [var.cluster_account]
}

provider "aws" {
  alias               = "data"
  region              = var.region
  allowed_account_ids = [var.data_account]

  assume_role {
    role_arn = var.data_account_role_arn
  }
}

data "aws_partition" "current" {}

locals {
  bucket = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket}"

  permissions = {
    acme-list-bucket-role   = { actions = ["s3:ListBucket"], resources = [local.bucket] }
    acme-read-bucket-role   = { actions = ["s3:GetObject"], resources = ["${local.bucket}/*"] }
    acme-update-bucket-role = { actions = ["s3:PutObject", "s3:DeleteObject"], resources = ["${local.bucket}/*"] }
  }
}

module "proxy_roles" {
  source = "../../proxy-roles"

  oidc_provider = var.oidc_provider

  # By name, not by module.target_roles: those trust the proxy roles, which so must be there first.
  targets = {
    for name in keys(local.permissions) : name => {
      role_arn = "arn:${data.aws_partition.current.partition}:iam::${var.data_account}:role/${name}"
      proxies  = name == "acme-read-bucket-role" ? 2 : 1
    }
  }

  organizations = {
    data-science = ["acme-list-bucket-role", "acme-read-bucket-role"]
    research     = ["acme-update-bucket-role"]
  }
}

module "target_roles" {
  source = "../../target-roles"

  providers = {
    aws = aws.data
  }

  roles = {
    for name, permission in local.permissions : name => {
      proxy_role_arns = module.proxy_roles.role_arns[name]
      policy = jsonencode({
        Version   = "2012-10-17"
        Statement = [{ Effect = "Allow", Action = permission.actions, Resource = permission.resources }]
      })
    }
  }
}

module "service_role" {
  source = "../../service-role"

  region            = var.region
  oidc_provider     = var.oidc_provider
  proxy_role_prefix = "acme-"
}

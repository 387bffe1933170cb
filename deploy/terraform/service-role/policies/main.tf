# Owns the documents of the service's role. No provider: `terraform apply` here works anywhere, and shows what they say.

locals {
  role_prefix = "arn:${var.partition}:iam::${var.account_id}:role/"
  cluster_arn = (
    var.cluster_name == null ? null
    : "arn:${var.partition}:eks:${var.region}:${var.account_id}:cluster/${var.cluster_name}"
  )
  association_arns = (
    var.cluster_name == null ? null
    : "arn:${var.partition}:eks:${var.region}:${var.account_id}:podidentityassociation/${var.cluster_name}/*"
  )
  proxy_roles = concat(
    var.proxy_role_arns,
    var.proxy_role_prefix == null ? [] : ["${local.role_prefix}${var.proxy_role_prefix}*"],
  )

  trust_by_irsa = {
    Sid       = "ThePodsOfTheService"
    Effect    = "Allow"
    Principal = { Federated = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${var.oidc_provider}" }
    Action    = "sts:AssumeRoleWithWebIdentity"
    Condition = {
      StringEquals = {
        "${var.oidc_provider}:aud" = var.oidc_audience
        "${var.oidc_provider}:sub" = "system:serviceaccount:${var.namespace}:${var.service_account}"
      }
    }
  }

  # EKS sets these tags itself, and nobody in the cluster can choose them.
  trust_by_pod_identity = {
    Sid       = "ThePodsOfTheService"
    Effect    = "Allow"
    Principal = { Service = "pods.eks.amazonaws.com" }
    Action    = ["sts:AssumeRole", "sts:TagSession"]
    Condition = {
      StringEquals = {
        "aws:RequestTag/eks-cluster-arn"            = local.cluster_arn
        "aws:RequestTag/kubernetes-namespace"       = var.namespace
        "aws:RequestTag/kubernetes-service-account" = var.service_account
      }
    }
  }

  proxy_statement = {
    Sid      = "TrustPoliciesOfProxyRoles"
    Effect   = "Allow"
    Action   = ["iam:GetRole", "iam:UpdateAssumeRolePolicy"]
    Resource = local.proxy_roles
  }

  # Which action takes which resource: "Actions defined by Amazon Elastic Kubernetes Service", Service Authorization
  # Reference. Creating and listing are asked of the cluster, the rest of an association.
  pod_identity_statements = [
    {
      Sid      = "PodIdentityOfTheCluster"
      Effect   = "Allow"
      Action   = ["eks:CreatePodIdentityAssociation", "eks:ListPodIdentityAssociations"]
      Resource = local.cluster_arn
    },
    {
      Sid    = "PodIdentityAssociations"
      Effect = "Allow"
      Action = [
        "eks:DeletePodIdentityAssociation",
        "eks:DescribePodIdentityAssociation",
        "eks:TagResource",
        "eks:UpdatePodIdentityAssociation",
      ]
      Resource = local.association_arns
    },
    {
      Sid      = "TrustPoliciesOfPodIdentityRoles"
      Effect   = "Allow"
      Action   = ["iam:GetRole", "iam:UpdateAssumeRolePolicy"]
      Resource = var.pod_identity_role_arns
    },
    {
      Sid       = "RolesHandedToPods"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = var.pod_identity_role_arns
      Condition = { StringEquals = { "iam:PassedToService" = "pods.eks.amazonaws.com" } }
    },
  ]

  audience_statement = {
    Sid      = "AudiencesOfRoleTokens"
    Effect   = "Allow"
    Action   = "iam:GetOpenIDConnectProvider"
    Resource = "arn:${var.partition}:iam::${var.account_id}:oidc-provider/${var.oidc_provider}"
  }

  statements = {
    proxies      = jsonencode([local.proxy_statement])
    role_tokens  = jsonencode([local.audience_statement])
    pod_identity = jsonencode(local.pod_identity_statements)
    none         = jsonencode([])
  }
}

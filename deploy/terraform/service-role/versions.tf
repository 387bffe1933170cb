terraform {
  # Validations that look at several variables came with 1.9.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # aws_eks_pod_identity_association came with 5.29.
      version = ">= 5.29"
    }
  }
}

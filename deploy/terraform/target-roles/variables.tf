variable "roles" {
  description = "The target roles by name: the proxy roles that may assume each, and what it may do: `policy`, a document as JSON, `policy_arns`, managed policies, or both."
  type = map(object({
    proxy_role_arns = list(string)
    policy          = optional(string)
    policy_arns     = optional(list(string), [])
  }))

  validation {
    condition     = alltrue([for name in keys(var.roles) : can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", name))])
    error_message = "A role's name is 1 to 64 letters, digits or +=,.@_- and has no path: that is `path`."
  }

  validation {
    condition     = alltrue([for role in var.roles : length(role.proxy_role_arns) > 0])
    error_message = "Each role needs at least one proxy role that may assume it."
  }

  validation {
    condition = alltrue(flatten([
      for role in var.roles : [
        for arn in role.proxy_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))
      ]
    ]))
    error_message = "proxy_role_arns are roles' ARNs, without a wildcard: an account's root would let in everybody there who may assume roles."
  }

  validation {
    condition     = alltrue([for role in var.roles : role.policy == null || can(jsondecode(role.policy))])
    error_message = "policy is a policy document as JSON: use jsonencode or file."
  }
}

variable "path" {
  description = "The path of the target roles, with a slash at both ends."
  type        = string
  default     = "/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9+=,.@_-]+/)*$", var.path))
    error_message = "A path begins and ends with a slash, such as /domino/."
  }
}

variable "trust_policy_max_chars" {
  description = "The quota \"Role trust policy length\" of the roles' own account. A trust policy names each proxy role."
  type        = number
  default     = 2048

  validation {
    condition     = var.trust_policy_max_chars >= 512 && var.trust_policy_max_chars <= 8192
    error_message = "AWS gives 2048 characters, and 8192 at most."
  }
}

variable "permissions_boundary" {
  description = "The ARN of a policy that bounds the roles, where the organization wants one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags on the roles."
  type        = map(string)
  default     = {}
}

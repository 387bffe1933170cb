variable "targets" {
  description = "The target roles by a key of your own; the key names the proxy roles. `role_arn` may lie in any account, and need not exist yet. `proxies` is how many proxy roles share the load: each holds about 33 runs at the quota of 2,048 characters. `carrier` is `entry`, or `token` for a constant trust policy that holds any number of runs."
  type        = map(object({ role_arn = string, proxies = optional(number, 1), carrier = optional(string, "entry") }))

  validation {
    condition     = alltrue([for target in var.targets : target.carrier == "entry" || (target.carrier == "token" && target.proxies == 1)])
    error_message = "carrier is entry or token; a role that comes by tokens has one proxy role, which holds any number of runs."
  }

  validation {
    condition = alltrue([
      for target in var.targets : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", target.role_arn))
    ])
    error_message = "role_arn is a role's ARN, such as arn:aws:iam::222222222222:role/acme-list-bucket-role, without a wildcard."
  }

  validation {
    condition     = alltrue([for target in var.targets : target.proxies >= 1 && target.proxies <= 100 && floor(target.proxies) == target.proxies])
    error_message = "proxies is a whole number from 1 to 100, which is what an organization's mapping holds."
  }

  validation {
    condition = alltrue([
      for key, target in var.targets : can(regex("^[A-Za-z0-9+=,.@_-]{1,64}$", "${var.name_prefix}${key}${target.proxies > 1 ? "-${target.proxies}" : ""}"))
    ])
    error_message = "Key and name_prefix make the proxy roles' names: together at most 64 letters, digits or +=,.@_-, with room for -2, -3, …"
  }

  validation {
    condition = length(distinct(flatten([
      for key, target in var.targets : [for number in range(1, target.proxies + 1) : number == 1 ? key : "${key}-${number}"]
    ]))) == length(flatten([for target in var.targets : range(target.proxies)]))
    error_message = "Two proxy roles would have one name: the key `a` with 2 proxies makes a and a-2, so a-2 cannot be a key too."
  }
}

variable "organizations" {
  description = "The Domino organizations, each with the keys of the targets that its members get."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue([for key in flatten(values(var.organizations)) : contains(keys(var.targets), key)])
    error_message = "An organization names a key that is not in targets."
  }

  validation {
    condition     = alltrue([for name in keys(var.organizations) : can(regex("^[A-Za-z0-9._-]{1,253}$", name))])
    error_message = "An organization's name is letters, digits, dots, hyphens and underscores, as in Domino."
  }
}

variable "default_profiles" {
  description = "By organization: the key of the target that it proposes as its members' default profile."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name, key in var.default_profiles : contains(try(var.organizations[name], []), key)])
    error_message = "A default profile is a target of its organization: a key that `organizations` has there."
  }
}

variable "compute_namespace" {
  description = "The namespace of the runs, whose service accounts may have role tokens."
  type        = string
  default     = "domino-compute"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.compute_namespace))
    error_message = "A namespace is lower-case letters, digits and hyphens."
  }
}

variable "name_prefix" {
  description = "What every proxy role's name begins with: the one that the service's role is given, unless the keys begin with it."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[A-Za-z0-9+=,.@_-]*$", var.name_prefix))
    error_message = "A prefix is letters, digits or +=,.@_-"
  }
}

variable "path" {
  description = "The path of the proxy roles, with a slash at both ends."
  type        = string
  default     = "/"

  validation {
    condition     = can(regex("^/([A-Za-z0-9+=,.@_-]+/)*$", var.path))
    error_message = "A path begins and ends with a slash, such as /domino/."
  }
}

variable "oidc_provider" {
  description = "The cluster's OIDC issuer without a scheme: oidc.eks.us-west-2.amazonaws.com/id/…"
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+(/[A-Za-z0-9._~-]+)*$", var.oidc_provider))
    error_message = "The issuer is given without https:// and without a slash at the end."
  }
}

variable "oidc_audience" {
  description = "The audience of the pods' tokens."
  type        = string
  default     = "sts.amazonaws.com"

  validation {
    condition     = can(regex("^[A-Za-z0-9._:/-]+$", var.oidc_audience))
    error_message = "An audience is one word, such as sts.amazonaws.com."
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

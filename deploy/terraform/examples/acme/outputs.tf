output "helm_values" {
  description = "For the chart: terraform output -raw helm_values > irsa-values.yaml"
  value       = module.service_role.helm_values
}

output "mapping_requests" {
  description = "By organization: the JSON body for POST /update_multirole_mapping."
  value       = module.proxy_roles.mapping_requests
}

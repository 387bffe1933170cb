output "role_arns" {
  description = "By name: the ARNs of the target roles."
  value       = { for name, role in aws_iam_role.target : name => role.arn }
}

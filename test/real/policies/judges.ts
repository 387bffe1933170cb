/** Owns two third-party checkers of policy documents: `@cloud-copilot/iam-policy` and parliament. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { startChild } from '../../stack/process.ts';
import { npmPackage, pythonTool } from '../tools.ts';

export const versions = { '@cloud-copilot/iam-policy': '0.1.109', parliament: '1.6.4' };

interface Finding {
  message: string;
  path: string;
}

interface IamPolicy {
  validateIdentityPolicy(document: unknown): Finding[];
  validateTrustPolicy(document: unknown): Finding[];
  lintPolicy(document: unknown): Finding[];
}

export interface Judge {
  /** What is wrong with the trust policy of a role. */
  trust(document: unknown): string[];
  /** What is wrong with what a role may do. */
  permissions(document: unknown): string[];
}

/** @throws Unavailable where the package cannot be obtained. */
export async function iamPolicyJudge(): Promise<Judge> {
  const folder = npmPackage('@cloud-copilot/iam-policy', versions['@cloud-copilot/iam-policy']);
  const entry = pathToFileURL(join(folder, 'dist', 'esm', 'index.js')).href;
  const { validateIdentityPolicy, validateTrustPolicy, lintPolicy } = (await import(entry)) as IamPolicy;
  const shown = (findings: Finding[]) => [...new Set(findings.map(({ message, path }) => `${path}: ${message}`))];
  return {
    trust: (document) => shown([...validateTrustPolicy(document), ...lintPolicy(document)]),
    permissions: (document) => shown([...validateIdentityPolicy(document), ...lintPolicy(document)]),
  };
}

const script = `
import json, sys
from parliament import analyze_policy_string
for line in sys.stdin:
    document = json.loads(line)
    findings = analyze_policy_string(json.dumps(document)).findings
    print(json.dumps({"findings": [f"{one.issue} {one.detail} {one.location}" for one in findings]}), flush=True)
`;

/** @returns what is wrong with a document of permissions: parliament knows no trust policies. @throws Unavailable */
export function startParliament(): { permissions(document: unknown): Promise<string[]>; stop(): Promise<void> } {
  // It asks for pkg_resources, which newer versions of setuptools lack.
  const bin = pythonTool('parliament', [`parliament==${versions.parliament}`, 'setuptools==80.9.0']);
  const child = startChild(join(bin, 'python'), ['-c', script]);
  return {
    permissions: async (document) => {
      const judged = child.line<{ findings: string[] }>((line) => 'findings' in line);
      child.write(`${JSON.stringify(document)}\n`);
      return (await judged).findings;
    },
    stop: () => child.stop(),
  };
}

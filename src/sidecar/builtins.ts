/**
 * Owns the loading of Node's heavier modules: by name, as CommonJS does, so that the idle sidecar stays under 60 MB.
 *
 * An `import` of such a module reads all its exports, and its getters load modules that the sidecar never uses:
 * `http.WebSocket` loads undici (13 MB), `fs.promises` readline (1 MB), `tls.rootCertificates` every CA as text. For the same
 * reason the sidecar has no fetch, express (19 MB), zod (13 MB) or AWS SDK (12 MB). Measured with Node 24 as resident memory.
 */
export const crypto = process.getBuiltinModule('node:crypto');
export const fs = process.getBuiltinModule('node:fs');
export const http = process.getBuiltinModule('node:http');
export const https = process.getBuiltinModule('node:https');
export const tls = process.getBuiltinModule('node:tls');

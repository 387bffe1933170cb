/**
 * Owns how Node's heavier modules are loaded, so that the sidecar idles under 60 MB: by name, as CommonJS has them.
 *
 * An `import` of them reads all their exports, getters too, and those load what is never used: `http.WebSocket` brings
 * undici (13 MB), `fs.promises` readline (1 MB), `tls.rootCertificates` every CA as text. For the same reason there is
 * no fetch here, no express (19 MB), no zod (13 MB) and no AWS SDK (12 MB). Measured with Node 24 as resident memory.
 */
export const crypto = process.getBuiltinModule('node:crypto');
export const fs = process.getBuiltinModule('node:fs');
export const http = process.getBuiltinModule('node:http');
export const https = process.getBuiltinModule('node:https');
export const tls = process.getBuiltinModule('node:tls');

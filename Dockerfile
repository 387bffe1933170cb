# The image of all programs: the service, which it starts by itself; the sidecar, as `npm run sidecar` has it:
#   node --jitless --single-threaded --max-semi-space-size=1 --expose-gc dist/src/sidecar/main.js
# and the CA publisher, as the chart starts it:
#   node --jitless --single-threaded --max-semi-space-size=1 dist/src/publish-ca.js
# `.ci/production-install` carries these steps out without Docker and starts them with these lines, in each CI run.

# The release of Node that the tests run on. A tag can be moved: for an image that is the same for good, pin the digest,
#   docker buildx imagetools inspect node:24.21.0-bookworm-slim --format '{{.Manifest.Digest}}'
#   docker build --build-arg NODE_IMAGE=node:24.21.0-bookworm-slim@sha256:… .
# It is not written here, since it could not be looked up where this file was made.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No package gets to run anything at its installation.
RUN npm ci --ignore-scripts
COPY build.ts build-console.ts tsconfig.json ./
COPY src ./src
COPY routes ./routes
RUN npm run build

FROM ${NODE_IMAGE} AS production
WORKDIR /app
COPY package.json package-lock.json sbom.ts ./
RUN npm ci --omit=dev --ignore-scripts && node sbom.ts

FROM ${NODE_IMAGE} AS final
# Of the sources: docker build --build-arg REVISION=$(git rev-parse HEAD) .
ARG REVISION=unknown
LABEL org.opencontainers.image.title="irsa-svc"
LABEL org.opencontainers.image.description="Lets each Domino run on Amazon EKS assume the IAM roles of the person who started it, and no others."
LABEL org.opencontainers.image.version="2.1.0"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.revision="${REVISION}"
WORKDIR /app
ENV NODE_ENV=production
COPY package.json openapi.yaml LICENSE ./
COPY --from=production /app/node_modules ./node_modules
COPY --from=production /app/sbom.cdx.json ./
COPY --from=build /app/dist ./dist
# By number, so that Kubernetes can tell that it is not root. It owns nothing here: the root file system may be read-only.
USER 1000:1000
# The service, its metrics, and the sidecar's health and refresh.
EXPOSE 6000 8080 6003
STOPSIGNAL SIGTERM
CMD ["node", "--max-semi-space-size=8", "--heap-growing-percent=40", "dist/src/main.js"]

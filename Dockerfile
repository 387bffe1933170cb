# The image of both programs: the service, which it starts by itself, and the side-car, as `npm run sidecar` has it:
#   node --jitless --single-threaded --max-semi-space-size=1 --expose-gc dist/src/sidecar/main.js
# `.ci/production-install` carries these steps out without Docker and starts both with these lines, in each CI run.

FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No package gets to run anything at its installation.
RUN npm ci --ignore-scripts
COPY build.ts tsconfig.json ./
COPY src ./src
COPY routes ./routes
RUN npm run build

FROM node:24-slim AS production
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts

FROM node:24-slim AS final
WORKDIR /app
ENV NODE_ENV=production
COPY package.json openapi.yaml LICENSE ./
COPY --from=production /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# By number, so that Kubernetes can tell that it is not root. It owns nothing here: the root file system may be read-only.
USER 1000:1000
# The service, its metrics, and the side-car's health and refresh.
EXPOSE 6000 8080 6003
STOPSIGNAL SIGTERM
CMD ["node", "--max-semi-space-size=4", "dist/src/main.js"]

/** Owns `GET /openapi.yaml` and `GET /docs`: the contract, and a page that shows it and loads nothing from elsewhere. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import express, { Router } from 'express';
import { projectFile } from '../src/lib/project-file.ts';

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>irsa-svc</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon-32x32.png">
</head>
<body>
<div id="contract"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/page.js"></script>
</body>
</html>
`;

const script = `SwaggerUIBundle({ url: 'openapi.yaml', dom_id: '#contract', deepLinking: true, validatorUrl: null });\n`;

export function docsRoutes(): Router {
  const router = Router({ strict: true });
  const contract = readFileSync(projectFile('openapi.yaml'), 'utf8');
  const viewer = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));
  router.get('/openapi.yaml', (_req, res) => {
    res.type('application/yaml').send(contract);
  });
  router.get('/docs', (_req, res) => {
    res.type('html').send(page);
  });
  router.get('/docs/page.js', (_req, res) => {
    res.type('text/javascript').send(script);
  });
  router.use('/docs/assets', express.static(viewer, { index: false, maxAge: '1h' }));
  return router;
}

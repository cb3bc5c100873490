import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'

// `fragments: 'tree'` builds the page by createElement, never by innerHTML: with that, and with no
// inlined asset, the page lives under a strict content security policy and Trusted Types.
export default defineConfig({
  base: './',
  plugins: [svelte({ compilerOptions: { runes: true, fragments: 'tree' } })],
  build: {
    outDir: '../src/tokenscope/server/page',
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  test: {
    environment: 'node',
    include: ['tests/**/*.test.ts'],
  },
})

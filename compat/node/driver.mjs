// What the drivers of Node's clients have in common: calls come in on standard input, one JSON object a line, answers
// and what happens on streams go out on standard output (`compat/go/driven`).

import { Console } from 'node:console'
import { createInterface } from 'node:readline'

// What libraries log must not come between the answers.
globalThis.console = new Console(process.stderr)

export const END = -1
export const START = -2
export const TOPIC_ALREADY_EXISTS = 36

const say = said => process.stdout.write(JSON.stringify(said) + '\n')
const log = error => process.stderr.write(`${error?.stack ?? error}\n`)

/** Drives what `open` makes of a bootstrap address. `codeOf` finds the node's error code in an error, or 0. */
export function drive({ lacks, codeOf, open }) {
  process.on('unhandledRejection', log)
  process.on('uncaughtException', log)
  const refused = error => ({ error: String(error?.message ?? error) || 'refused', code: codeOf(error) || 0 })
  const client = open(process.argv[2], (stream, event, value) => {
    say(event === 'failed' ? { stream, event, ...refused(value) } : { stream, event, value })
  })
  const streams = new Map()
  client.close = ({ stream }) => streams.get(stream)?.close()
  createInterface({ input: process.stdin })
    .on('line', async line => {
      const { id, call, with: asked } = JSON.parse(line)
      try {
        const value = await client[call](asked, streams.get(asked.stream))
        if (call === 'read' || call === 'join') {
          streams.set(asked.stream, value)
        }
        say({ id, value: call === 'read' || call === 'join' ? null : value ?? null })
      } catch (error) {
        log(error)
        say({ id, ...refused(error) })
      }
    })
    // No goodbye: whoever wants a member to leave asks for it.
    .on('close', () => process.exit(0))
  say(lacks)
}

export const bytes = text => (text === null ? null : Buffer.from(text, 'base64'))
export const text = bytes => (bytes === null || bytes === undefined ? null : Buffer.from(bytes).toString('base64'))

/** Pieces of so many. */
export function chunks(all, size) {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size))
}

/** A refusal that a library tells of without an error. */
export function refusal(message, code) {
  return Object.assign(new Error(message), { code })
}

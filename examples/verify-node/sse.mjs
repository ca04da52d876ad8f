// Server-sent events (HTML Living Standard, section 9.2.6), as far as the feed uses them: lines end in LF or CRLF.

const MAX_EVENT = 16 << 20 // characters; what is longer comes by polling

/** Yields the events {event, id, data, retry} in a stream of bytes. What is incomplete when the stream ends is dropped. */
export async function* events(stream) {
  const decoder = new TextDecoder()
  let text = ''
  let fields = {}
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true })
    const lines = text.split('\n')
    text = lines.pop() // not complete yet
    if (text.length > MAX_EVENT) throw new Error('event too long')
    for (const line of lines) {
      const { field, value } = parse(line.replace(/\r$/, ''))
      if (field === undefined) {
        if (fields.event || fields.retry) yield fields
        fields = {}
      } else if (field === 'data') {
        fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`
        if (fields.data.length > MAX_EVENT) throw new Error('event too long')
      } else if (field === 'event' || field === 'id') {
        fields[field] = value
      } else if (field === 'retry' && /^\d{1,9}$/.test(value)) {
        fields.retry = Number(value)
      }
    }
  }
}

/** Splits a line; an empty one ends the event and has no field. A comment is a field without a name. */
function parse(line) {
  if (line === '') return {}
  const colon = line.indexOf(':')
  if (colon < 0) return { field: line, value: '' }
  return { field: line.slice(0, colon), value: line.slice(colon + 1).replace(/^ /, '') }
}

#include "iperf_sink/protocol.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value of a key of a flat JSON object, or NULL. Parameters are a flat object whose strings
 * (title, extra data) are skipped as a whole, so that nothing in them is taken for a key. */
static const char* find_value(const char* json, const char* key) {
  const size_t length = strlen(key);
  const char* at = json;
  while ((at = strchr(at, '"')) != NULL) {
    const char* const start = ++at;
    while (*at != '\0' && *at != '"') at += at[0] == '\\' && at[1] != '\0' ? 2 : 1;
    if (*at == '\0') return NULL;
    const bool same = (size_t)(at - start) == length && memcmp(start, key, length) == 0;
    const char* after = at + 1;
    after += strspn(after, " \t\r\n");
    if (same && *after == ':') return after + 1 + strspn(after + 1, " \t\r\n");
    at++;
  }
  return NULL;
}

static bool flag(const char* json, const char* key) {
  const char* value = find_value(json, key);
  return value != NULL && (strncmp(value, "true", 4) == 0 || (*value >= '1' && *value <= '9'));
}

static unsigned number(const char* json, const char* key, unsigned otherwise, unsigned highest) {
  const char* value = find_value(json, key);
  if (value == NULL || *value < '0' || *value > '9') return otherwise;
  const unsigned long parsed = strtoul(value, NULL, 10);
  return parsed > highest ? highest : (unsigned)parsed;
}

bool parse_parameters(const char* json, struct iperf_parameters* out) {
  if (json[strspn(json, " \t\r\n")] != '{') return false;
  out->tcp = flag(json, "tcp");
  out->reverse = flag(json, "reverse");
  out->bidirectional = flag(json, "bidirectional");
  out->streams = number(json, "parallel", 1, MAX_STREAMS + 1);
  out->omit = number(json, "omit", 0, 600);
  out->block = number(json, "len", 128 * 1024, 1 << 20);
  if (out->streams == 0) out->streams = 1;
  if (out->block == 0) out->block = 128 * 1024;
  return true;
}

size_t format_results(char* out, size_t size, const struct iperf_stream_result* streams,
                      unsigned count, double seconds, double cpu_percent, bool sender) {
  /* sender_has_retransmits: -1 says that retransmissions are not counted at this end. */
  int used = snprintf(out, size,
                      "{\"cpu_util_total\":%f,\"cpu_util_user\":%f,\"cpu_util_system\":0,"
                      "\"sender_has_retransmits\":%d,\"streams\":[",
                      cpu_percent, cpu_percent, sender ? 0 : -1);
  for (unsigned i = 0; i < count && (size_t)used < size; i++) {
    used += snprintf(out + used, size - (size_t)used,
                     "%s{\"id\":%u,\"bytes\":%llu,\"retransmits\":%d,\"jitter\":0,\"errors\":0,"
                     "\"packets\":0,\"start_time\":0,\"end_time\":%f}",
                     i == 0 ? "" : ",", streams[i].id, (unsigned long long)streams[i].bytes, -1,
                     seconds);
  }
  if ((size_t)used < size) used += snprintf(out + used, size - (size_t)used, "]}");
  return (size_t)used < size ? (size_t)used : 0;
}

unsigned stream_id(unsigned index) { return index == 0 ? 1 : index + 2; }

// The exception path: packets that are addressed to this host, that no socket here wants, and that
// the kernel may have, because its policy allows them or because they answer what it has sent. It
// answers them under the same addresses, so nothing is said about them here: no RST, no ICMP error.
//
// Two buckets for each interface bound what the slow path costs: one for what strangers begin, one
// for what belongs to conversations of the kernel, so that a flood does not end these.
#include "stack/core.h"

namespace postern {
namespace {

// An echo is a conversation too: its identifier is the local port.
FlowKey conversation_of(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (p.kind != PacketKind::icmp) return key_of_packet(p);
  return {p.source, 0, p.destination, wire::icmp_identifier(packet, p), p.protocol};
}

}  // namespace

std::unique_ptr<StackCore::Exceptions> StackCore::make_exceptions(const ExceptionConfig& config) {
  if (config.conversations == nullptr) return nullptr;
  auto exceptions = std::make_unique<Exceptions>(Exceptions{config, {}});
  for (const ExceptionConfig::Interface& i : config.interfaces) {
    exceptions->limits.push_back({RateLimit(i.rate), RateLimit(i.rate)});
  }
  return exceptions;
}

const ExceptionPolicy* StackCore::policy_of(const ParsedPacket& p) const noexcept {
  const auto& interfaces = exceptions_->config.interfaces;
  return p.interface < interfaces.size() ? interfaces[p.interface].policy : nullptr;
}

Drop StackCore::except_packet(const RxPacket& packet, const ParsedPacket& p,
                              Drop otherwise) noexcept {
  const ExceptionPolicy* const policy = policy_of(p);
  if (policy == nullptr) return otherwise;
  if (foreign(conversation_of(packet, p))) return pass(packet, p, true);
  return policy->allows(p.protocol, p.destination_port) ? pass(packet, p, false) : otherwise;
}

Drop StackCore::except_error(const RxPacket& packet, const ParsedPacket& p) noexcept {
  const ExceptionPolicy* const policy = exceptions_ == nullptr ? nullptr : policy_of(p);
  if (policy == nullptr) return Drop::icmp_ignored;
  const wire::QuotedPacket q = wire::parse_icmp_quote(packet, p);
  const FlowKey key(q.destination, q.destination_port, q.source, q.source_port, q.protocol);
  if (foreign(key)) return pass(packet, p, true);
  const bool allowed = policy->allows(q.protocol, q.source_port) || policy->allows(p.protocol, 0);
  return allowed ? pass(packet, p, false) : Drop::icmp_ignored;
}

void StackCore::except_answer(const RxPacket& packet, const ParsedPacket& p) noexcept {
  if (exceptions_ == nullptr || !config_.speaks_for_host || policy_of(p) == nullptr) return;
  if (const Drop drop = pass(packet, p, true); drop != Drop::none) counters.drop(drop);
}

Drop StackCore::pass(const RxPacket& packet, const ParsedPacket& p, bool answer) noexcept {
  Exceptions::Limits& limits = exceptions_->limits[p.interface];
  if (!(answer ? limits.answers : limits.unasked).take(now_)) return Drop::exception_rate_limited;
  const ExceptionConfig& config = exceptions_->config;
  RxPacket passed = packet;
  passed.interface = p.interface;  // that of its tag
  if (!config.pass(config.opaque, passed)) return Drop::exception_queue_full;
  counters.add(Counter::exception_rx);
  return Drop::none;
}

}  // namespace postern

#include "stack/core.h"
#include "wire/build.h"

namespace postern {

Drop StackCore::arp_input(const RxPacket& packet, const ParsedPacket& parsed) noexcept {
  const wire::ArpPacket arp = wire::read_arp(packet, parsed);
  if (arp.operation == wire::ArpPacket::kReply) except_answer(packet, parsed);
  const ArpResponder::Answer answer = arp_.input(arp, parsed.interface, now_);
  if (answer.drop == Drop::none) counters.add(Counter::arp_rx);
  if (answer.send) send_arp(answer.packet, answer.destination, parsed.interface);
  return answer.drop;
}

void StackCore::send_arp(const wire::ArpPacket& arp, const MacAddress& destination,
                         uint16_t interface) noexcept {
  TxFrame* frame = begin_control();
  if (frame == nullptr) return;
  const size_t l2 = wire::write_ethernet(frame->data, destination, interfaces_[interface].mac,
                                         wire::ether_type::arp, interfaces_[interface].vlan);
  frame->l2_length = static_cast<uint8_t>(l2);
  frame->length = static_cast<uint32_t>(l2 + wire::write_arp(frame->data + l2, arp));
  frame->interface = interface;
  control_.commit();
  counters.add(Counter::arp_tx);
}

}  // namespace postern

// What the two players of packet scripts have in common: the meaning of words, and the comparison
// of a packet with a line.
#pragma once

#include <string>

#include "script.h"

namespace postern::script {

// "ECONNRESET" -> its number; 0 for an empty text; -1: unknown.
int errno_number(const std::string& name);
std::string errno_name(int error);
// "TCP_ESTABLISHED" -> Linux's number of the state; -1: none of them.
int state_number(const std::string& name);

// The number in "[5]" or "5".
uint32_t bracketed(const std::string& text);
// The errno in "[ECONNRESET]" or "[0]".
int bracketed_errno(const std::string& text);
// Without quotation marks and brackets.
std::string unquoted(std::string text);

// left OP right, of an assertion.
bool compare(double left, const std::string& op, double right);

// In what a packet, counted as the script counts, differs from a line; empty: in nothing.
// `timestamp_ms`: by how much a timestamp value may differ.
std::string differences(const PacketSpec& want, const TcpSegment& got, uint32_t timestamp_ms = 0);

}  // namespace postern::script

#include "wire/cursor.h"

#include <gtest/gtest.h>

#include <array>

#include "wire/headers.h"

namespace postern::wire {
namespace {

TEST(Cursor, TakesOnlyWhatIsThere) {
  const std::array<std::byte, 10> bytes{std::byte{0x12}, std::byte{0x34}};
  Cursor cursor(bytes.data(), bytes.size());
  const auto* const word = cursor.take<be16>();
  ASSERT_NE(word, nullptr);
  EXPECT_EQ(word->host(), 0x1234);
  EXPECT_EQ(cursor.position(), 2U);
  EXPECT_NE(cursor.peek<be64>(), nullptr);
  EXPECT_EQ(cursor.take<IcmpHeader>(), reinterpret_cast<const IcmpHeader*>(bytes.data() + 2));
  EXPECT_EQ(cursor.remaining(), 0U);
  EXPECT_EQ(cursor.take<uint8_t>(), nullptr);
  EXPECT_EQ(cursor.position(), 10U) << "a refused take consumes nothing";
  EXPECT_NE(cursor.take_bytes(0), nullptr);
}

TEST(Cursor, TruncatesNeverGrows) {
  const std::array<std::byte, 10> bytes{};
  Cursor cursor(bytes);
  EXPECT_FALSE(cursor.truncate(11));
  EXPECT_TRUE(cursor.truncate(4));
  EXPECT_FALSE(cursor.truncate(5));
  EXPECT_EQ(cursor.take_bytes(5), nullptr);
  EXPECT_EQ(cursor.take_bytes(SIZE_MAX), nullptr);
  EXPECT_NE(cursor.take_bytes(4), nullptr);
}

}  // namespace
}  // namespace postern::wire

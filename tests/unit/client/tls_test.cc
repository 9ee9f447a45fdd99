// asio::ssl over postern.hpp's sockets, with a certificate made here.
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>

#include "client/postern.hpp"
#include "fixture.h"

namespace postern::test {
namespace {

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using asio::use_awaitable;
using asio::ip::tcp;

const tcp::endpoint kServer(asio::ip::make_address("10.0.0.2"), 8443);

// A key, and a certificate signed by itself, good for an hour.
void certify(ssl::context& context) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("postern"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  ASSERT_NE(X509_sign(certificate, key, EVP_sha256()), 0);
  ASSERT_EQ(SSL_CTX_use_certificate(context.native_handle(), certificate), 1);
  ASSERT_EQ(SSL_CTX_use_PrivateKey(context.native_handle(), key), 1);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

asio::awaitable<void> echo_once(acceptor& from, ssl::context& context, size_t bytes) {
  ssl::stream<stream_socket> stream(co_await from.async_accept(use_awaitable), context);
  co_await stream.async_handshake(ssl::stream_base::server, use_awaitable);
  std::vector<char> data(bytes);
  co_await asio::async_read(stream, asio::buffer(data), use_awaitable);
  co_await asio::async_write(stream, asio::buffer(data), use_awaitable);
  error_code ec;
  co_await stream.async_shutdown(asio::redirect_error(use_awaitable, ec));
}

TEST_F(ClientTest, Tls) {
  constexpr size_t kBytes = 300000;
  ssl::context server_context(ssl::context::tls_server), client_context(ssl::context::tls_client);
  certify(server_context);
  asio::io_context io;
  acceptor server(io, {tcp::v4(), 8443});
  asio::co_spawn(io, echo_once(server, server_context, kBytes), asio::detached);
  bool done = false;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        ssl::stream<stream_socket> stream(io, client_context);
        co_await stream.lowest_layer().async_connect(kServer, use_awaitable);
        co_await stream.async_handshake(ssl::stream_base::client, use_awaitable);
        const std::vector<char> out = pattern_bytes(3, kBytes);
        std::vector<char> in(kBytes);
        co_await asio::async_write(stream, asio::buffer(out), use_awaitable);
        co_await asio::async_read(stream, asio::buffer(in), use_awaitable);
        EXPECT_EQ(in, out);
        error_code ec;
        co_await stream.async_shutdown(asio::redirect_error(use_awaitable, ec));
        done = true;
      },
      asio::detached);
  io.run();
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace postern::test

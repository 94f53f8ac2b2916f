#include "services/common/tls_files.h"

#include <fstream>
#include <iterator>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in.is_open() || in.bad() || text.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "cannot read the PEM file \"%s\"; check the path and its permissions", path));
  }
  return text;
}

Bio BioOf(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

absl::StatusOr<Certificate> ParseCertificate(const std::string& path, const std::string& pem) {
  const Bio bio = BioOf(pem);
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        absl::StrFormat("expected a PEM certificate (BEGIN CERTIFICATE) in \"%s\"", path));
  }
  return certificate;
}

absl::StatusOr<Key> ParseKey(const std::string& path, const std::string& pem) {
  // An empty password: an encrypted key must fail here instead of asking the terminal.
  std::string password;
  const Bio bio = BioOf(pem);
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, password.data()));
  if (key == nullptr) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected an unencrypted PEM private key (BEGIN PRIVATE KEY) in \"%s\"", path));
  }
  return key;
}

absl::StatusOr<grpc::SslServerCredentialsOptions::PemKeyCertPair> ReadKeyPair(
    const std::string& cert_file, const std::string& key_file) {
  if (cert_file.empty() || key_file.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a certificate and a key file belong together: certificate \"%s\", key \"%s\"", cert_file,
        key_file));
  }
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  YANGTUO_ASSIGN_OR_RETURN(pair.cert_chain, ReadPem(cert_file));
  YANGTUO_ASSIGN_OR_RETURN(pair.private_key, ReadPem(key_file));
  YANGTUO_ASSIGN_OR_RETURN(const Certificate certificate,
                           ParseCertificate(cert_file, pair.cert_chain));
  YANGTUO_ASSIGN_OR_RETURN(const Key key, ParseKey(key_file, pair.private_key));
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrFormat(
        "the key in \"%s\" is not the key of the certificate in \"%s\"", key_file, cert_file));
  }
  return pair;
}

absl::StatusOr<std::string> ReadAuthority(const std::string& path) {
  YANGTUO_ASSIGN_OR_RETURN(std::string pem, ReadPem(path));
  YANGTUO_RETURN_IF_ERROR(ParseCertificate(path, pem).status());
  return pem;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsOf(const ServerTls& tls) {
  if (!tls.enabled()) {
    if (!tls.key_file.empty() || !tls.client_ca_file.empty()) {
      return absl::InvalidArgumentError(
          "a TLS key or client CA without a certificate would leave the port in plaintext; set "
          "the certificate file too");
    }
    return grpc::InsecureServerCredentials();
  }
  YANGTUO_ASSIGN_OR_RETURN(auto pair, ReadKeyPair(tls.cert_file, tls.key_file));
  grpc::SslServerCredentialsOptions options(
      tls.client_ca_file.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                 : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_key_cert_pairs.push_back(std::move(pair));
  if (!tls.client_ca_file.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(options.pem_root_certs, ReadAuthority(tls.client_ca_file));
  }
  return grpc::SslServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsOf(
    const ClientTls& tls) {
  if (!tls.enabled()) {
    if (!tls.cert_file.empty() || !tls.key_file.empty()) {
      return absl::InvalidArgumentError(
          "a client certificate without the peer's CA would leave the connection in plaintext; "
          "set the CA file too");
    }
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions options;
  YANGTUO_ASSIGN_OR_RETURN(options.pem_root_certs, ReadAuthority(tls.ca_file));
  if (!tls.cert_file.empty() || !tls.key_file.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(auto pair, ReadKeyPair(tls.cert_file, tls.key_file));
    options.pem_cert_chain = std::move(pair.cert_chain);
    options.pem_private_key = std::move(pair.private_key);
  }
  return grpc::SslCredentials(options);
}

}  // namespace yangtuo

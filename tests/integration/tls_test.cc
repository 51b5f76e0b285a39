// SPDX-License-Identifier: Apache-2.0
//
// A real controller that others reach by TLS, in this process, and those who may and may not.
#include "admin/server.h"
#include "api/client.h"
#include "api/tls.h"
#include "base/eventually.h"
#include "base/temporary_folder.h"
#include "controller/controller.h"
#include "pki/authority.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <ctime>
#include <fstream>
#include <future>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

namespace lanepool::integration {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

class Site {
  public:
    Site() { EXPECT_TRUE(pki::Authority::init(folder_ / "ca", "ca", std::time(nullptr))); }
    api::TlsFiles issue(const std::string& name, pki::Role role, std::vector<std::string> ip = {},
                        int days = 30, int64_t at_s = std::time(nullptr)) const {
        auto authority = this->authority();
        const auto issued =
            authority.issue({name, role, role == pki::Role::agent ? name : "", {}, ip}, days, at_s);
        EXPECT_TRUE(issued.has_value()) << issued.error().message();
        // It is given to NAME: what is revoked is not in the CA's folder any more.
        const api::TlsFiles given{folder_ / "ca/ca.pem", folder_ / (name + ".pem"),
                                  folder_ / (name + ".key")};
        fs::copy_file(authority.chain_path(name), given.certificate);
        fs::copy_file(authority.key_path(name), given.key);
        return given;
    }
    void revoke(const std::string& name) const { EXPECT_TRUE(authority().revoke(name, std::time(nullptr))); }
    fs::path crl() const { return folder_ / "ca/crl.pem"; }

  private:
    pki::Authority authority() const { return pki::Authority::open(folder_ / "ca").value(); }
    TemporaryFolder folder_;
};

// The time that a test says it is, for whether certificates have expired.
class TestClock final : public io::Clock {
  public:
    io::TimePoint now() const override { return io::system_clock().now(); }
    int64_t unix_time_us() const override { return io::system_clock().unix_time_us() + ahead_us; }
    std::atomic<int64_t> ahead_us{0};
};

class TlsTest : public testing::Test {
  protected:
    TlsTest() {
        controller::ControllerOptions options;
        options.listen = fmt::format("unix:{},127.0.0.1:0", socket().string());
        options.tls = site.issue("pool1", pki::Role::controller, {"127.0.0.1"});
        options.tls_crl = site.crl();
        options.state = folder / "state";
        options.admin = folder / "admin.sock";
        std::promise<Result<std::string>> started;
        auto answer = started.get_future();
        thread_ = std::thread([this, options, &started] { run(options, started); });
        const auto endpoints = answer.get();
        EXPECT_TRUE(endpoints.has_value()) << endpoints.error().message();
        if (endpoints) address = endpoints->substr(0, endpoints->find(','));
    }
    ~TlsTest() override {
        if (loop_) loop_->stop();
        thread_.join();
        loop_.reset();
    }

    fs::path socket() const { return folder / "c.sock"; }

    using Channel = std::shared_ptr<grpc::Channel>;
    Channel channel(const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
        grpc::ChannelArguments arguments;
        arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
        return grpc::CreateCustomChannel(address, credentials, arguments);
    }
    Channel channel(const api::TlsFiles& files) const {
        const auto credentials = api::client_credentials(files);
        EXPECT_TRUE(credentials.has_value()) << credentials.error().message();
        return channel(*credentials);
    }

    static void set_deadline(grpc::ClientContext& context) {
        context.set_deadline(std::chrono::system_clock::now() + 15s);
    }
    static grpc::Status list(const Channel& channel) {
        grpc::ClientContext context;
        set_deadline(context);
        v1::DeviceList devices;
        return v1::Pool::NewStub(channel)->ListDevices(&context, {}, &devices);
    }
    static grpc::Status drain(const Channel& channel) {
        grpc::ClientContext context;
        set_deadline(context);
        v1::DrainRequest request;
        request.set_host_or_device("store1");
        request.set_drain(true);
        request.set_reason("test");
        v1::Done done;
        return v1::Pool::NewStub(channel)->Drain(&context, request, &done);
    }
    static grpc::Status apply_site(const Channel& channel, const std::string& text) {
        grpc::ClientContext context;
        set_deadline(context);
        v1::ApplySiteRequest request;
        request.set_text(text);
        request.set_file_name("site.toml");
        v1::Done done;
        return v1::Pool::NewStub(channel)->ApplySite(&context, request, &done);
    }
    static grpc::Status borrow(const Channel& channel, const std::string& host = "a") {
        grpc::ClientContext context;
        set_deadline(context);
        v1::BorrowRequest request;
        request.add_devices()->set_device("store1/nvme0");
        request.set_host(host);
        const auto reader = v1::Pool::NewStub(channel)->Borrow(&context, request);
        v1::Progress progress;
        while (reader->Read(&progress)) {
        }
        return reader->Finish();
    }

    // By the agent, in the name of a user of its host.
    static grpc::Status borrow_for(const Channel& channel, const std::string& user, const std::string& host,
                                   const std::string& access_model = "smartio") {
        grpc::ClientContext context;
        set_deadline(context);
        v1::BorrowRequest request;
        request.add_devices()->set_device("store1/nvme0");
        request.set_host(host);
        request.set_access_model(access_model);
        request.set_on_behalf_of(user);
        const auto reader = v1::Pool::NewStub(channel)->Borrow(&context, request);
        v1::Progress progress;
        while (reader->Read(&progress)) {
        }
        return reader->Finish();
    }

    // What is on record, by the socket of this machine: nothing of it follows from who was refused.
    size_t records() const {
        auto client = api::Client::connect({.endpoints = "unix:" + socket().string()});
        EXPECT_TRUE(client.has_value());
        grpc::ClientContext context;
        (*client)->prepare(context);
        v1::AuditVerification verification;
        EXPECT_TRUE((*client)->pool().VerifyAudit(&context, {}, &verification).ok());
        return verification.entries();
    }

    const Site site;
    const TemporaryFolder folder;
    TestClock clock;
    std::string address;

  private:
    void run(const controller::ControllerOptions& options, std::promise<Result<std::string>>& started) {
        loop_ = io::EventLoop::create(clock).value();
        const auto controller = controller::Controller::create(*loop_, options);
        if (!controller) return started.set_value(tl::unexpected<Error>(controller.error()));
        started.set_value((*controller)->endpoints());
        loop_->run();
    }
    std::unique_ptr<io::EventLoop> loop_;
    std::thread thread_;
};

// An agent's stream, as far as it is needed here.
class AgentStream {
  public:
    explicit AgentStream(const std::shared_ptr<grpc::Channel>& channel)
        : stub_(v1::Agents::NewStub(channel)) {
        context_.set_deadline(std::chrono::system_clock::now() + 20s);
        stream_ = stub_->Connect(&context_);
    }
    bool hello(const std::string& host) {
        v1::AgentMessage message;
        auto& hello = *message.mutable_hello();
        hello.set_host(host);
        hello.set_partition(1);
        hello.set_instance("1");
        hello.set_version("test");
        auto& device = *hello.add_devices();
        device.set_name("nvme0");
        device.mutable_identity()->set_serial("serial");
        device.mutable_identity()->set_kind("nvme");
        device.set_answering(true);
        device.set_clean(true);
        v1::ControllerMessage answer;
        return stream_->Write(message) && stream_->Read(&answer) && answer.has_welcome();
    }
    // Heart-beats until the controller ends the stream.
    grpc::Status until_closed() {
        std::atomic<bool> over{false};
        std::thread heart([&] {
            v1::AgentMessage beat;
            beat.mutable_heartbeat()->set_windows_free(1);
            while (!over && stream_->Write(beat))
                std::this_thread::sleep_for(100ms);
        });
        v1::ControllerMessage message;
        while (stream_->Read(&message)) {
        }
        over = true;
        heart.join();
        return stream_->Finish();
    }
    grpc::Status finish() {
        context_.TryCancel();
        return stream_->Finish();
    }
    grpc::Status refusal() { return stream_->Finish(); }

  private:
    std::unique_ptr<v1::Agents::Stub> stub_;
    grpc::ClientContext context_;
    std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>> stream_;
};

// ---- those who may

TEST_F(TlsTest, AUserIsLetIn) {
    const auto status = list(channel(site.issue("eve", pki::Role::user)));
    EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(TlsTest, AnAgentSpeaksForItsHost) {
    AgentStream agent(channel(site.issue("store1", pki::Role::agent)));
    EXPECT_TRUE(agent.hello("store1"));
    agent.finish();
}

TEST_F(TlsTest, AnAdminChangesTheSite) {
    const auto admin = channel(site.issue("ada", pki::Role::admin));
    const auto status = apply_site(admin, "[[tenant]]\nname = \"red\"\n");
    EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(TlsTest, ClientsFindTheControllerByItsAddress) {
    for (const auto role : {pki::Role::user, pki::Role::agent}) {
        const auto client = api::Client::connect(
            {.endpoints = address, .tls = site.issue(std::string(name(role)), role), .timeout = 10s});
        EXPECT_TRUE(client.has_value()) << client.error().message();
    }
}

TEST_F(TlsTest, AClientWithoutCertificatesIsToldSo) {
    const auto client = api::Client::connect({.endpoints = address, .timeout = 10s});
    ASSERT_FALSE(client.has_value());
    EXPECT_THAT(client.error().message(), HasSubstr("--tls-cert"));
}

TEST_F(TlsTest, AClientThatIsRevokedIsToldSo) {
    const auto eve = site.issue("eve", pki::Role::user);
    const auto waiting = channel(eve);
    site.revoke("eve");
    EXPECT_TRUE(eventually([&] { return !list(waiting).ok(); }));
    const auto client = api::Client::connect({.endpoints = address, .tls = eve, .timeout = 3s});
    ASSERT_FALSE(client.has_value());
    EXPECT_THAT(client.error().message(), HasSubstr("has been revoked"));
}

TEST_F(TlsTest, WhoIsKnownIsNoStranger) {
    const auto credentials = api::client_credentials(site.issue("eve", pki::Role::user)).value();
    std::vector<Channel> many;
    for (int i = 0; i < 80; ++i) {
        many.push_back(channel(credentials));
        const auto status = list(many.back());
        ASSERT_TRUE(status.ok()) << i << ": " << status.error_message();
    }
}

TEST_F(TlsTest, ThisMachineIsReachedBesides) { EXPECT_EQ(records(), records()); }

TEST_F(TlsTest, WhatIsListenedOnIsInTheStatus) {
    const auto status = admin::call(folder / "admin.sock", {{"command", "status"}});
    ASSERT_TRUE(status.has_value()) << status.error().message();
    EXPECT_EQ((*status)["listen"][1]["endpoint"], address);
    EXPECT_EQ((*status)["listen"][1]["identity"], "certificate");
}

// ---- those who may less

TEST_F(TlsTest, AUserIsNoOperator) {
    AgentStream agent(channel(site.issue("store1", pki::Role::agent)));
    ASSERT_TRUE(agent.hello("store1"));
    const size_t before = records();
    const auto user = channel(site.issue("eve", pki::Role::user));
    const auto status = drain(user);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), HasSubstr("the certificate is a user's"));
    EXPECT_EQ(apply_site(user, "").error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_GE(records(), before); // that it was refused is on record
    EXPECT_TRUE(drain(channel(site.issue("olga", pki::Role::operator_))).ok());
    agent.finish();
}

TEST_F(TlsTest, TheSiteMakesNoOperatorOfAUser) {
    AgentStream agent(channel(site.issue("store1", pki::Role::agent)));
    ASSERT_TRUE(agent.hello("store1"));
    ASSERT_TRUE(apply_site(channel(site.issue("ada", pki::Role::admin)),
                           "[[user]]\nname = \"eve\"\nrole = \"operator\"\n")
                    .ok());
    EXPECT_EQ(drain(channel(site.issue("eve", pki::Role::user))).error_code(),
              grpc::StatusCode::PERMISSION_DENIED);
    agent.finish();
}

// The stream takes no steps, so that what is let in goes as far as its first step.
TEST_F(TlsTest, AnAgentAsksInTheNameOfUsersOfItsHost) {
    const auto mine = channel(site.issue("store1", pki::Role::agent));
    AgentStream agent(mine);
    ASSERT_TRUE(agent.hello("store1"));
    EXPECT_TRUE(list(mine).ok());
    std::thread asks([&] { borrow_for(mine, "eve", "store1"); });
    const auto loans = [&] {
        const auto client = api::Client::connect({.endpoints = "unix:" + socket().string()});
        grpc::ClientContext context;
        (*client)->prepare(context);
        v1::LoanList list;
        EXPECT_TRUE((*client)->pool().ListLoans(&context, {}, &list).ok());
        return list;
    };
    EXPECT_TRUE(eventually([&] { return loans().loans_size() == 1; }));
    EXPECT_EQ(loans().loans(0).requested_by(), "eve@store1");
    EXPECT_EQ(loans().loans(0).access_model(), "smartio");
    v1::RenewRequest renewal;
    renewal.set_loan_or_device(fmt::format("loan:{}", loans().loans(0).id()));
    renewal.set_duration_s(50);
    renewal.set_on_behalf_of("eve");
    grpc::ClientContext context;
    set_deadline(context);
    v1::Loan renewed;
    const auto status = v1::Pool::NewStub(mine)->Renew(&context, renewal, &renewed);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(renewed.duration_s(), 50);
    agent.finish(); // the loan fails with it
    asks.join();
}

TEST_F(TlsTest, AnAgentAsksForNobodyElse) {
    const auto mine = channel(site.issue("store1", pki::Role::agent));
    AgentStream agent(mine);
    ASSERT_TRUE(agent.hello("store1"));
    const auto for_another_host = borrow_for(mine, "eve", "store2");
    EXPECT_EQ(for_another_host.error_code(), grpc::PERMISSION_DENIED);
    EXPECT_THAT(for_another_host.error_message(), HasSubstr("the agent of host store1 may not borrow"));
    EXPECT_EQ(borrow_for(mine, "eve", "store1", "lending").error_code(), grpc::PERMISSION_DENIED);
    EXPECT_EQ(borrow_for(mine, "e e", "store1").error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_EQ(borrow_for(mine, std::string(64, 'e'), "store1").error_code(), grpc::INVALID_ARGUMENT);
    agent.finish();
}

TEST_F(TlsTest, NobodyButAgentsAsksInSomebodysName) {
    for (const auto role : {pki::Role::user, pki::Role::admin, pki::Role::controller}) {
        const auto status = borrow_for(channel(site.issue(fmt::format("x{}", static_cast<int>(role)), role)),
                                       "eve", "store1");
        EXPECT_EQ(status.error_code(), grpc::PERMISSION_DENIED);
        EXPECT_THAT(status.error_message(), HasSubstr("only the agent of a host may"));
    }
}

TEST_F(TlsTest, AnAgentDoesNotSpeakForAnotherHost) {
    const size_t before = records();
    AgentStream agent(channel(site.issue("store1", pki::Role::agent)));
    EXPECT_FALSE(agent.hello("store2"));
    const auto status = agent.refusal();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), HasSubstr("store1 is not the agent of host store2, but of store1"));
    EXPECT_EQ(records(), before);
}

TEST_F(TlsTest, AnAgentAsksForNothingInItsOwnName) {
    const size_t before = records();
    const auto agent = channel(site.issue("store1", pki::Role::agent));
    for (const auto& status : {borrow(agent), drain(agent), apply_site(agent, "")}) {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
        EXPECT_THAT(status.error_message(), HasSubstr("agent store1 does not ask for anything here"));
    }
    EXPECT_EQ(records(), before);
}

TEST_F(TlsTest, AUserIsNoAgent) {
    const size_t before = records();
    AgentStream agent(channel(site.issue("store1", pki::Role::admin)));
    EXPECT_FALSE(agent.hello("store1"));
    const auto status = agent.refusal();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), HasSubstr("store1 is not the agent of host store1"));
    EXPECT_EQ(records(), before);
}

// ---- those who may not

TEST_F(TlsTest, WhoShowsNoCertificateIsRefused) {
    const size_t before = records();
    grpc::SslCredentialsOptions options;
    options.pem_root_certs =
        api::read_tls_files(site.issue("eve", pki::Role::user), std::time(nullptr)).value().ca;
    EXPECT_EQ(list(channel(grpc::SslCredentials(options))).error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(records(), before);
}

TEST_F(TlsTest, ACertificateOfAnotherCaIsRefused) {
    const size_t before = records();
    const Site other;
    const auto own = api::read_tls_files(site.issue("eve", pki::Role::user), std::time(nullptr)).value();
    const auto foreign =
        api::read_tls_files(other.issue("eve", pki::Role::admin), std::time(nullptr)).value();
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = own.ca; // it trusts the right one, and shows the wrong one
    options.pem_private_key = foreign.key;
    options.pem_cert_chain = foreign.certificate;
    EXPECT_EQ(list(channel(grpc::SslCredentials(options))).error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(records(), before);
}

TEST_F(TlsTest, AnExpiredCertificateIsRefused) {
    const auto expired =
        site.issue("eve", pki::Role::user, {}, 1, std::time(nullptr) - int64_t{3} * 24 * 3600);
    const auto credentials = api::client_credentials(expired);
    ASSERT_FALSE(credentials.has_value());
    EXPECT_THAT(credentials.error().message(),
                AllOf(HasSubstr("eve.pem has expired"), HasSubstr("lanepool pki renew eve")));
    const auto read = [](const fs::path& path) {
        std::ifstream file(path);
        return std::string{std::istreambuf_iterator<char>(file), {}};
    };
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = read(expired.ca);
    options.pem_private_key = read(expired.key);
    options.pem_cert_chain = read(expired.certificate);
    EXPECT_EQ(list(channel(grpc::SslCredentials(options))).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, ARevokedCertificateIsRefused) {
    const auto eve = site.issue("eve", pki::Role::user);
    site.revoke("eve");
    const auto connection = channel(eve);
    grpc::Status status;
    EXPECT_TRUE(eventually([&] {
        status = list(connection);
        return !status.ok();
    }));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), HasSubstr("certificate of user eve"));
    EXPECT_THAT(status.error_message(), HasSubstr("has been revoked"));
}

TEST_F(TlsTest, ARevokedAgentIsClosedWithinSeconds) {
    AgentStream agent(channel(site.issue("store1", pki::Role::agent)));
    ASSERT_TRUE(agent.hello("store1"));
    site.revoke("store1");
    const auto began = std::chrono::steady_clock::now();
    const auto status = agent.until_closed();
    EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("has been revoked"));
}

TEST_F(TlsTest, WhoFollowsTheTrailIsClosedWhenHeIsRevoked) {
    const auto stub = v1::Pool::NewStub(channel(site.issue("eve", pki::Role::user)));
    grpc::ClientContext context;
    set_deadline(context);
    v1::EventsRequest request;
    request.set_follow(true);
    const auto reader = stub->Events(&context, request);
    std::thread revoker([&] {
        std::this_thread::sleep_for(200ms);
        site.revoke("eve");
    });
    v1::AuditEntry entry;
    while (reader->Read(&entry)) {
    }
    revoker.join();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(TlsTest, ACertificateThatExpiresIsRefusedFromThenOn) {
    const auto eve = channel(site.issue("eve", pki::Role::user, {}, 30));
    AgentStream agent(channel(site.issue("store1", pki::Role::agent, {}, 30)));
    ASSERT_TRUE(agent.hello("store1"));
    EXPECT_TRUE(list(eve).ok());
    clock.ahead_us = int64_t{31} * 24 * 3600 * 1'000'000;
    const auto status = list(eve);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_THAT(status.error_message(), AllOf(HasSubstr("has expired"), HasSubstr("pki renew eve")));
    EXPECT_THAT(agent.until_closed().error_message(), HasSubstr("has expired"));
}

TEST_F(TlsTest, ABrokenListOfRevokedOnesDoesNotCount) {
    const auto mallory = channel(site.issue("mallory", pki::Role::user));
    std::ifstream file(site.crl());
    const std::string old{std::istreambuf_iterator<char>(file), {}};
    site.revoke("mallory");
    EXPECT_TRUE(eventually([&] { return !list(mallory).ok(); }));
    for (const std::string& broken : {std::string("broken"), std::string(), old}) {
        std::ofstream(site.crl()) << broken;
        std::this_thread::sleep_for(2500ms);
        EXPECT_EQ(list(mallory).error_code(), grpc::StatusCode::PERMISSION_DENIED);
        EXPECT_TRUE(list(channel(site.issue(fmt::format("eve{}", broken.size()), pki::Role::user))).ok());
    }
}

// ---- those who do not speak TLS

class RawConnection {
  public:
    explicit RawConnection(const std::string& address) {
        const auto colon = address.rfind(':');
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(colon + 1))));
        ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &where.sin_addr);
        fd_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where), 0);
    }
    void send(std::string_view text) { ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL); }
    bool closed_within(std::chrono::milliseconds limit) {
        const auto end = std::chrono::steady_clock::now() + limit;
        while (std::chrono::steady_clock::now() < end) {
            pollfd readable{fd_.get(), POLLIN, 0};
            if (::poll(&readable, 1, 100) <= 0) continue;
            char byte;
            if (::recv(fd_.get(), &byte, 1, 0) <= 0) return true;
        }
        return false;
    }

  private:
    UniqueFd fd_;
};

TEST_F(TlsTest, PlainTextIsRefused) {
    const size_t before = records();
    EXPECT_EQ(list(channel(grpc::InsecureChannelCredentials())).error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(records(), before);
    EXPECT_TRUE(list(channel(site.issue("eve", pki::Role::user))).ok());
}

TEST_F(TlsTest, BytesWithoutMeaningAreRefused) {
    for (const auto& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(4096, '\0'),
                              std::string("\x16\x03\x01\xff\xff") + std::string(70000, 'x')}) {
        RawConnection connection(address);
        connection.send(bytes);
        EXPECT_TRUE(connection.closed_within(5s));
    }
    EXPECT_TRUE(list(channel(site.issue("eve", pki::Role::user))).ok());
}

TEST_F(TlsTest, WhoNeverSaysAWordKeepsNobodyOut) {
    const auto known = channel(site.issue("eve", pki::Role::user));
    ASSERT_TRUE(list(known).ok());
    std::vector<std::unique_ptr<RawConnection>> silent;
    for (int i = 0; i < 64; ++i)
        silent.push_back(std::make_unique<RawConnection>(address));
    RawConnection one_more(address);
    EXPECT_TRUE(one_more.closed_within(5s)) << "as many from one address as are taken";
    EXPECT_TRUE(list(known).ok()) << "who is connected already";
    EXPECT_TRUE(silent.front()->closed_within(15s)) << "a handshake has a deadline";
    EXPECT_TRUE(eventually([&] { return list(channel(site.issue("ada", pki::Role::user))).ok(); }));
}

// ---- controllers that do not start

TEST(TlsOptions, AnAddressTakesCertificates) {
    const TemporaryFolder folder;
    const auto loop = io::EventLoop::create().value();
    controller::ControllerOptions options;
    options.listen = "127.0.0.1:0";
    options.state = folder / "state";
    const auto controller = controller::Controller::create(*loop, options);
    ASSERT_FALSE(controller.has_value());
    EXPECT_THAT(controller.error().message(),
                AllOf(HasSubstr("needs certificates"), HasSubstr("--tls-cert")));
}

TEST(TlsOptions, AListThatIsNotThereIsAnError) {
    const Site site;
    const TemporaryFolder folder;
    const auto loop = io::EventLoop::create().value();
    controller::ControllerOptions options;
    options.listen = "127.0.0.1:0";
    options.state = folder / "state";
    options.tls = site.issue("pool1", pki::Role::controller, {"127.0.0.1"});
    options.tls_crl = "/nowhere/crl.pem";
    const auto controller = controller::Controller::create(*loop, options);
    ASSERT_FALSE(controller.has_value());
    EXPECT_THAT(controller.error().message(), AllOf(HasSubstr("--tls-crl"), HasSubstr("/nowhere/crl.pem")));
}

TEST(TlsOptions, EndpointsThatAreNoneAreRefused) {
    const Site site;
    const TemporaryFolder folder;
    const auto loop = io::EventLoop::create().value();
    controller::ControllerOptions options;
    options.state = folder / "state";
    options.tls = site.issue("pool1", pki::Role::controller, {"127.0.0.1"});
    for (const auto* listen : {"", ",", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", ":1",
                               "::1:1", "127.0.0.1:0,"}) {
        options.listen = listen;
        const auto controller = controller::Controller::create(*loop, options);
        ASSERT_FALSE(controller.has_value()) << listen;
        EXPECT_EQ(controller.error().code(), Errc::invalid_argument) << listen;
    }
}

} // namespace
} // namespace lanepool::integration

// SPDX-License-Identifier: Apache-2.0
//
// Our client against a server that says whatever it likes.
#include "vfio_user/raw_peer.h"
#include "vfio_user/server_description.h"
#include "vfio_user/test_function.h"

#include <cerrno>
#include <poll.h>
#include <sys/eventfd.h>

namespace lanepool::vfio_user {
namespace {

using testing::iova;
using testing::RawPeer;
using wire::Command;

constexpr uint64_t page = 4096;

// A server on a thread. It answers as a decent, standard one would, but for the commands for which a test has
// given another answer.
class HostileServer : public ::testing::Test {
  protected:
    using Answer = std::function<void(RawPeer&, const Message&)>;

    HostileServer() : listener_(*io::listen_unix(folder_ / "s")) {}
    ~HostileServer() override {
        {
            const std::lock_guard lock(mutex_);
            if (peer_) ::shutdown(peer_->fd(), SHUT_RDWR);
        }
        if (thread_.joinable()) thread_.join();
    }

    // Connects our client. Answers set before hold from the first message on.
    Result<std::unique_ptr<pci::Function>> connect(io::Duration timeout = std::chrono::seconds(30)) {
        thread_ = std::thread([this] { serve(); });
        return vfio_user::connect(folder_ / "s", {.timeout = timeout});
    }
    void answer(Command command, Answer answer) {
        const std::lock_guard lock(mutex_);
        answers_[command] = std::move(answer);
    }
    // Every time with this payload.
    template <class... Parts>
    void answer_with(Command command, Parts... parts) {
        answer(command, [parts...](RawPeer& peer, const Message& message) {
            peer.reply(message, {wire::bytes_of(parts)...});
        });
    }

    static wire::RegionInfo region_info(uint32_t index, uint32_t flags = 3, uint64_t size = 4 * page) {
        return {sizeof(wire::RegionInfo), flags, index, 0, size, 0};
    }

    TemporaryFolder folder_;
    std::string version_json_ = R"({"capabilities":{"max_msg_fds":2}})";
    // To say something unasked, once connected.
    RawPeer& peer() {
        const std::lock_guard lock(mutex_);
        return *peer_;
    }

  private:
    RawPeer& admit(UniqueFd socket) {
        const std::lock_guard lock(mutex_);
        peer_ = std::make_unique<RawPeer>(std::move(socket));
        return *peer_;
    }
    void serve() {
        // The test's client may give up before it is accepted: then there is still a connection.
        pollfd ready{listener_.get(), POLLIN, 0};
        if (::poll(&ready, 1, 10'000) <= 0) return;
        UniqueFd socket(::accept(listener_.get(), nullptr, nullptr));
        RawPeer& peer = admit(std::move(socket));
        while (const auto message = peer.receive()) {
            Answer special;
            {
                const std::lock_guard lock(mutex_);
                const auto found = answers_.find(static_cast<Command>(uint16_t{message->header.command}));
                if (found != answers_.end()) special = found->second;
            }
            if (special)
                special(peer, *message);
            else
                answer_decently(peer, *message);
        }
    }
    void answer_decently(RawPeer& peer, const Message& message) {
        std::span<const std::byte> payload = message.payload;
        switch (static_cast<Command>(uint16_t{message.header.command})) {
        case Command::version: {
            const wire::Version version{0, 0};
            const auto json = std::as_bytes(std::span(version_json_.c_str(), version_json_.size() + 1));
            peer.reply(message, {wire::bytes_of(version), json});
            return;
        }
        case Command::device_get_info: {
            const wire::DeviceInfo info{sizeof info, 3, 9, 5};
            peer.reply(message, {wire::bytes_of(info)});
            return;
        }
        case Command::device_get_region_info: {
            const auto request = *wire::take<wire::RegionInfo>(payload);
            const auto info = region_info(request.index);
            peer.reply(message, {wire::bytes_of(info)});
            return;
        }
        case Command::device_get_irq_info: {
            const auto request = *wire::take<wire::IrqInfo>(payload);
            const wire::IrqInfo info{sizeof info, wire::irq::eventfd, request.index, 8};
            peer.reply(message, {wire::bytes_of(info)});
            return;
        }
        case Command::region_read: {
            const auto access = *wire::take<wire::RegionAccess>(payload);
            const std::vector<std::byte> data(access.count);
            peer.reply(message, {wire::bytes_of(access), data});
            return;
        }
        default:
            peer.reply(message, {});
        }
    }

    UniqueFd listener_;
    std::mutex mutex_;
    std::unique_ptr<RawPeer> peer_;
    std::map<Command, Answer> answers_;
    std::thread thread_;
};

// --- the stream

TEST_F(HostileServer, ThatDoesNotAnswerAtAllIsATimeout) {
    answer(Command::version, [](RawPeer&, const Message&) {});
    const auto before = std::chrono::steady_clock::now();
    EXPECT_EQ(connect(std::chrono::milliseconds(100)).error().code(), Errc::timeout);
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(2));
}

TEST_F(HostileServer, ThatStopsInTheMiddleOfAnAnswerIsATimeout) {
    const auto function = *connect(std::chrono::milliseconds(100));
    answer(Command::region_read, [](RawPeer& peer, const Message& message) {
        wire::Header header = message.header;
        header.flags = wire::flags::reply;
        header.size_bytes = 100;
        peer.send_bytes(wire::bytes_of(header));
    });
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::timeout);
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::disconnected);
}

TEST_F(HostileServer, AnAnswerWithAnotherIdEndsTheConnection) {
    const auto function = *connect();
    answer(Command::region_read, [](RawPeer& peer, const Message& message) {
        Message other{message.header, {}, {}, false};
        other.header.id = static_cast<uint16_t>(message.header.id + 1);
        peer.reply(other, {});
    });
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::disconnected);
}

TEST_F(HostileServer, AnAnswerToAnotherCommandEndsTheConnection) {
    const auto function = *connect();
    answer(Command::region_read, [](RawPeer& peer, const Message& message) {
        Message other{message.header, {}, {}, false};
        other.header.command = static_cast<uint16_t>(Command::region_write);
        peer.reply(other, {});
    });
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::disconnected);
}

TEST_F(HostileServer, AMessageThatIsTooLargeEndsTheConnection) {
    const auto function = *connect();
    answer(Command::region_read, [](RawPeer& peer, const Message& message) {
        wire::Header header = message.header;
        header.flags = wire::flags::reply;
        header.size_bytes = 0x7fffffff;
        peer.send_bytes(wire::bytes_of(header));
    });
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::disconnected);
}

TEST_F(HostileServer, ACommandThatServersDoNotSendEndsTheConnection) {
    const auto function = *connect();
    std::promise<void> gone;
    function->on_disconnect([&] { gone.set_value(); });
    peer().send(Command::device_reset, {});
    gone.get_future().get();
}

TEST_F(HostileServer, ErrorsKeepTheirMeaningAndHarmNobodyElse) {
    const auto function = *connect();
    for (const auto& [number, code] :
         std::vector<std::pair<uint32_t, Errc>>{{EBUSY, Errc::busy}, {0xffffffff, Errc::io}, {0, Errc::io}}) {
        answer(Command::device_reset, [number](RawPeer& peer, const Message& message) {
            wire::Header header = message.header;
            header.flags = wire::flags::reply | wire::flags::error;
            header.error = number;
            peer.send_bytes(wire::encode(header, {}));
        });
        EXPECT_EQ(function->reset().error().code(), code);
    }
    EXPECT_TRUE(pci::read32(*function, pci::Region::bar0, 0));
}

// --- what it says of itself

TEST_F(HostileServer, AnotherVersionIsNotSupported) {
    answer_with(Command::version, wire::Version{1, 0});
    EXPECT_EQ(connect().error().code(), Errc::not_supported);
}

TEST_F(HostileServer, ANewerMinorVersionThanProposedIsNotSupported) {
    answer_with(Command::version, wire::Version{0, 9});
    EXPECT_EQ(connect().error().code(), Errc::not_supported);
}

TEST_F(HostileServer, CapabilitiesThatAreNotJsonAreAProtocolError) {
    version_json_ = "hello";
    EXPECT_EQ(connect().error().code(), Errc::protocol);
}

TEST_F(HostileServer, SomethingThatIsNotPciIsNotSupported) {
    answer_with(Command::device_get_info, wire::DeviceInfo{16, 1, 9, 5});
    EXPECT_EQ(connect().error().code(), Errc::not_supported);
}

TEST_F(HostileServer, ManyRegionsAndInterruptsAreNotAskedFor) {
    answer_with(Command::device_get_info, wire::DeviceInfo{16, 3, 0xffffffff, 0xffffffff});
    EXPECT_TRUE(connect());
}

TEST_F(HostileServer, ARegionOfAnotherIndexIsAProtocolError) {
    answer_with(Command::device_get_region_info, region_info(5));
    EXPECT_EQ(connect().error().code(), Errc::protocol);
}

TEST_F(HostileServer, ARegionThatNeedsMoreAndMoreRoomIsAProtocolError) {
    std::atomic<uint32_t> asked{0};
    answer(Command::device_get_region_info, [&](RawPeer& peer, const Message& message) {
        ++asked;
        std::span<const std::byte> payload = message.payload;
        auto info = *wire::take<wire::RegionInfo>(payload);
        info.argsz = info.argsz + 4096;
        peer.reply(message, {wire::bytes_of(info)});
    });
    EXPECT_EQ(connect().error().code(), Errc::protocol);
    EXPECT_LT(asked, 100u);
}

TEST_F(HostileServer, MoreInterruptsThanPciHasAreAProtocolError) {
    answer(Command::device_get_irq_info, [](RawPeer& peer, const Message& message) {
        const wire::IrqInfo info{16, 1, 0, 2049};
        peer.reply(message, {wire::bytes_of(info)});
    });
    EXPECT_EQ(connect().error().code(), Errc::protocol);
}

TEST_F(HostileServer, AnInterruptIndexThatIsRefusedIsNotThere) {
    answer(Command::device_get_irq_info,
           [](RawPeer& peer, const Message& message) { peer.reply(message, {}, {}, EINVAL); });
    const auto function = connect();
    ASSERT_TRUE(function);
    EXPECT_EQ((*function)->irq(pci::Irq::msi).count, 0u);
}

// --- memory behind regions

class HostileMemory : public HostileServer {
  protected:
    // BAR 0 in one or more areas; what the server says is the parameter.
    Result<std::unique_ptr<pci::Function>> connect_with(wire::RegionInfo info, wire::SparseMmap sparse,
                                                        std::vector<wire::SparseArea> areas,
                                                        uint64_t file_bytes = 4 * page) {
        file_ = *create_memory("bar", file_bytes);
        answer(Command::device_get_region_info, [=, this](RawPeer& peer, const Message& message) {
            std::span<const std::byte> payload = message.payload;
            const auto request = *wire::take<wire::RegionInfo>(payload);
            if (request.index != 0) {
                const auto none = region_info(request.index, 0, 0);
                peer.reply(message, {wire::bytes_of(none)});
                return;
            }
            const int fd = file_.get();
            peer.reply(message,
                       {wire::bytes_of(info), wire::bytes_of(sparse), std::as_bytes(std::span(areas))},
                       {&fd, 1});
        });
        return connect();
    }
    static wire::RegionInfo with_caps(uint32_t cap_offset = 32) {
        return {32, 15, 0, cap_offset, 4 * page, 0};
    }
    static wire::SparseMmap sparse(uint32_t count, uint32_t next = 0) {
        return {{wire::cap_sparse_mmap, 1, next}, count, 0};
    }
    UniqueFd file_;
};

TEST_F(HostileMemory, TheAreasAreWhatTheDecentServerSays) {
    const auto function = connect_with(with_caps(), sparse(2), {{2 * page, page}, {0, page}});
    ASSERT_TRUE(function);
    EXPECT_EQ((*function)->region(pci::Region::bar0).mappable,
              (std::vector<pci::Area>{{0, page}, {2 * page, page}}));
    const auto extents = *(*function)->memory(pci::Region::bar0, 2 * page + 8, page);
    ASSERT_EQ(extents.size(), 1u);
    EXPECT_EQ(extents[0].offset_bytes, 2 * page + 8);
    EXPECT_EQ(extents[0].memory.size_bytes, page - 8);
}

TEST_F(HostileMemory, AreasMustLieInTheRegionAndApart) {
    for (const auto& areas : std::vector<std::vector<wire::SparseArea>>{
             {{4 * page, page}}, {{0, 5 * page}}, {{~uint64_t{0}, 2}}, {{0, 2 * page}, {page, page}}}) {
        const auto info = with_caps();
        Message message{{}, {}, {}, false};
        const auto head = sparse(static_cast<uint32_t>(areas.size()));
        for (const auto part : {wire::bytes_of(info), wire::bytes_of(head), std::as_bytes(std::span(areas))})
            message.payload.insert(message.payload.end(), part.begin(), part.end());
        EXPECT_EQ(parse_region_info(std::move(message), 0, true).error().code(), Errc::protocol);
    }
}

TEST_F(HostileMemory, MoreAreasThanBytesAreAProtocolError) {
    EXPECT_EQ(connect_with(with_caps(), sparse(3), {{0, page}}).error().code(), Errc::protocol);
}

TEST_F(HostileMemory, HugeAreaCountsAreAProtocolError) {
    EXPECT_EQ(connect_with(with_caps(), sparse(0xffffffff), {{0, page}}).error().code(), Errc::protocol);
}

TEST_F(HostileMemory, ACapabilityOutsideOfTheAnswerIsAProtocolError) {
    EXPECT_EQ(connect_with(with_caps(4000), sparse(1), {{0, page}}).error().code(), Errc::protocol);
}

TEST_F(HostileMemory, ACapabilityInsideOfTheFixedPartIsAProtocolError) {
    EXPECT_EQ(connect_with(with_caps(8), sparse(1), {{0, page}}).error().code(), Errc::protocol);
}

TEST_F(HostileMemory, ACapabilityChainThatTurnsBackIsAProtocolError) {
    auto loop = sparse(1, 32);
    loop.header.id = 77; // an unknown one, that leads to itself
    EXPECT_EQ(connect_with(with_caps(), loop, {{0, page}}).error().code(), Errc::protocol);
}

TEST_F(HostileMemory, AFileThatIsTooShortIsNoMemory) {
    const auto function = connect_with(with_caps(), sparse(2), {{0, page}, {3 * page, page}}, 2 * page);
    ASSERT_TRUE(function);
    const auto extents = *(*function)->memory(pci::Region::bar0, 0, 4 * page);
    ASSERT_EQ(extents.size(), 1u); // who maps the other would be killed
    EXPECT_EQ(extents[0].offset_bytes, 0u);
}

TEST_F(HostileMemory, WithoutADescriptorNothingCanBeMapped) {
    answer_with(Command::device_get_region_info, region_info(0, 7));
    answer_with(Command::device_get_info, wire::DeviceInfo{16, 3, 1, 0});
    const auto function = connect();
    ASSERT_TRUE(function);
    EXPECT_TRUE((*function)->region(pci::Region::bar0).mappable.empty());
    EXPECT_TRUE((*function)->memory(pci::Region::bar0, 0, page)->empty());
}

// The same with our extension.
class HostileExtension : public HostileServer {
  protected:
    HostileExtension() { version_json_ = R"({"capabilities":{"max_msg_fds":64,"lanepool":{"version":1}}})"; }
    // What memory() of pages 1 and 2 makes of this answer.
    Result<std::vector<pci::Extent>>
    memory_with(wire::RegionMemory reply, std::vector<wire::MemoryExtent> extents, size_t descriptors = 1) {
        const auto function = TRY(connect());
        const auto file = TRY(create_memory("bar", 4 * page));
        answer(Command::lanepool_region_memory, [&](RawPeer& peer, const Message& message) {
            const std::vector<int> fds(descriptors, file.get());
            peer.reply(message, {wire::bytes_of(reply), std::as_bytes(std::span(extents))}, fds);
        });
        return function->memory(pci::Region::bar0, page, 2 * page);
    }
    static wire::RegionMemory reply(uint32_t count, uint64_t next = 3 * page) {
        return {40, 0, page, 2 * page, next, count, 0};
    }
};

TEST_F(HostileExtension, TheDecentAnswer) {
    const auto extents = memory_with(reply(2), {{page, page, 0, 0, 0}, {2 * page, page, page, 0, 0}});
    ASSERT_TRUE(extents) << extents.error().message();
    EXPECT_EQ(extents->size(), 2u);
}
TEST_F(HostileExtension, AnExtentBeforeTheRange) {
    EXPECT_EQ(memory_with(reply(1), {{0, page, 0, 0, 0}}).error().code(), Errc::protocol);
}
TEST_F(HostileExtension, AnExtentOverTheEnd) {
    EXPECT_EQ(memory_with(reply(1), {{2 * page, 2 * page, 0, 0, 0}}).error().code(), Errc::protocol);
}
TEST_F(HostileExtension, AnExtentThatWrapsAround) {
    EXPECT_EQ(memory_with(reply(1), {{page, ~uint64_t{0}, 0, 0, 0}}).error().code(), Errc::protocol);
}
TEST_F(HostileExtension, ExtentsThatOverlap) {
    EXPECT_EQ(memory_with(reply(2), {{page, page, 0, 0, 0}, {page, page, 0, 0, 0}}).error().code(),
              Errc::protocol);
}
TEST_F(HostileExtension, ADescriptorThatDidNotCome) {
    EXPECT_EQ(memory_with(reply(1), {{page, page, 0, 1, 0}}).error().code(), Errc::protocol);
}
TEST_F(HostileExtension, MemoryOutsideOfItsFile) {
    EXPECT_EQ(memory_with(reply(1), {{page, page, 4 * page, 0, 0}}).error().code(), Errc::invalid_argument);
}
TEST_F(HostileExtension, MoreExtentsThanBytes) {
    EXPECT_EQ(memory_with(reply(5), {{page, page, 0, 0, 0}}).error().code(), Errc::protocol);
}
TEST_F(HostileExtension, AnAnswerThatDoesNotComeForward) {
    EXPECT_EQ(memory_with(reply(0, page), {}, 0).error().code(), Errc::protocol);
}
TEST_F(HostileExtension, AnAnswerThatGoesTooFar) {
    EXPECT_EQ(memory_with(reply(0, 4 * page), {}, 0).error().code(), Errc::protocol);
}

TEST_F(HostileExtension, AnEventWithoutOrWithTooManyDescriptors) {
    const auto function = *connect();
    for (const size_t count : {size_t{0}, size_t{3}}) {
        answer(Command::lanepool_region_event, [count](RawPeer& peer, const Message& message) {
            const auto eventfd = *create_eventfd();
            peer.reply(message, {}, std::vector<int>(count, eventfd.get()));
        });
        EXPECT_EQ(function->event(pci::Region::bar0, 0).error().code(), Errc::protocol);
    }
}

// --- accesses

TEST_F(HostileServer, ReadsThatBringTooLittleOrTooMuchAreErrors) {
    const auto function = *connect();
    for (const size_t bytes : {0, 3, 5, 4000}) {
        answer(Command::region_read, [bytes](RawPeer& peer, const Message& message) {
            std::span<const std::byte> payload = message.payload;
            const auto access = *wire::take<wire::RegionAccess>(payload);
            const std::vector<std::byte> data(bytes);
            peer.reply(message, {wire::bytes_of(access), data});
        });
        EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::protocol);
    }
    answer_with(Command::region_read);
    EXPECT_EQ(pci::read32(*function, pci::Region::bar0, 0).error().code(), Errc::protocol);
    answer_with(Command::region_write, wire::RegionAccess{0, 0, 3});
    EXPECT_EQ(pci::write32(*function, pci::Region::bar0, 0, 1).error().code(), Errc::protocol);
}

TEST_F(HostileServer, TransfersKeepToItsLimit) {
    version_json_ = R"({"capabilities":{"max_data_xfer_size":100}})";
    const auto function = *connect();
    std::atomic<uint32_t> largest{0};
    std::atomic<uint32_t> count{0};
    answer(Command::region_read, [&](RawPeer& peer, const Message& message) {
        std::span<const std::byte> payload = message.payload;
        const auto access = *wire::take<wire::RegionAccess>(payload);
        largest = std::max<uint32_t>(largest, access.count);
        ++count;
        const std::vector<std::byte> data(access.count, static_cast<std::byte>(access.offset / 100));
        peer.reply(message, {wire::bytes_of(access), data});
    });
    std::vector<std::byte> data(250);
    ASSERT_TRUE(function->read(pci::Region::bar0, 0, data));
    EXPECT_EQ(largest, 100u);
    EXPECT_EQ(count, 3u);
    EXPECT_EQ(data[249], std::byte{2});
}

TEST_F(HostileServer, EventfdsGoInAsManyMessagesAsItTakes) {
    const auto function = *connect(); // takes two descriptors a message
    std::mutex mutex;
    std::vector<std::array<uint32_t, 3>> seen;
    answer(Command::device_set_irqs, [&](RawPeer& peer, const Message& message) {
        std::span<const std::byte> payload = message.payload;
        const auto set = *wire::take<wire::IrqSet>(payload);
        {
            const std::lock_guard lock(mutex);
            seen.push_back({set.start, set.count, static_cast<uint32_t>(message.fds.size())});
        }
        peer.reply(message, {});
    });
    const auto eventfd = *create_eventfd();
    const int fd = eventfd.get();
    const int list[] = {fd, fd, fd, -1, fd};
    ASSERT_TRUE(function->set_irqs(pci::Irq::msi, 1, list));
    EXPECT_EQ(seen, (std::vector<std::array<uint32_t, 3>>{{1, 2, 2}, {3, 1, 1}, {4, 1, 0}, {5, 1, 1}}));
}

TEST_F(HostileServer, AMappingThatIsRefusedIsNotThere) {
    const auto function = *connect();
    answer(Command::dma_map,
           [](RawPeer& peer, const Message& message) { peer.reply(message, {}, {}, ENOSPC); });
    const MemoryRef memory{share(*create_memory("ram", page)), 0, page};
    EXPECT_EQ(function->map_dma(iova(0, page), memory, Access::read_write).error().code(), Errc::no_space);
    answer(Command::dma_map, [](RawPeer& peer, const Message& message) { peer.reply(message, {}); });
    EXPECT_TRUE(function->map_dma(iova(0, page), memory, Access::read_write)); // no leftover
    EXPECT_EQ(function->map_dma_event(Iova{page}, *create_eventfd()).error().code(), Errc::not_supported);
}

TEST_F(HostileServer, ItsDmaIsChecked) {
    const auto function = *connect();
    const MemoryRef memory{share(*create_memory("ram", page)), 0, page};
    const auto mapping = *function->map_dma(iova(page, page), memory, Access::read_write);
    // Each answered with an error, none with memory. While the client waits for something, the server asks.
    std::vector<Message> answers;
    answer(Command::device_reset, [&](RawPeer& peer, const Message& message) {
        const std::array<std::byte, 4> data{};
        const auto ask = [&](Command command, const wire::DmaAccess& access, bool with_data) {
            peer.send(command, {wire::bytes_of(access), with_data ? data : std::span<const std::byte>()});
            auto got = peer.receive();
            if (got) answers.push_back(std::move(*got));
        };
        ask(Command::dma_read, {0, 4}, false);
        ask(Command::dma_read, {2 * page - 2, 4}, false);
        ask(Command::dma_read, {~uint64_t{0}, 4}, false);
        ask(Command::dma_read, {page, 0}, false);
        ask(Command::dma_read, {page, ~uint64_t{0}}, false);
        ask(Command::dma_write, {page, 8}, true);
        ask(Command::dma_write, {page, 4}, false);
        peer.send(Command::dma_read, {});
        answers.push_back(*peer.receive());
        ask(Command::dma_read, {page, 4}, false); // and this one is right
        peer.reply(message, {});
    });
    ASSERT_TRUE(function->reset());
    ASSERT_EQ(answers.size(), 9u);
    for (size_t i = 0; i < 8; ++i) {
        EXPECT_TRUE(answers[i].header.flags & wire::flags::error) << i;
        EXPECT_TRUE(answers[i].payload.empty());
    }
    EXPECT_EQ(answers[8].payload.size(), sizeof(wire::DmaAccess) + 4);
}

TEST_F(HostileServer, ThatWantsASecondSocketGetsItsAnswersThere) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    RawPeer twin{UniqueFd(pair[0])};
    const int theirs = pair[1];
    answer(Command::version, [theirs](RawPeer& peer, const Message& message) {
        std::span<const std::byte> payload = message.payload;
        ASSERT_TRUE(wire::take<wire::Version>(payload));
        EXPECT_TRUE(parse_capabilities(payload)->twin_socket);
        const wire::Version version{0, 0};
        const std::string json = R"({"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}})";
        peer.reply(message,
                   {wire::bytes_of(version), std::as_bytes(std::span(json.c_str(), json.size() + 1))},
                   {&theirs, 1});
    });
    const auto function = *connect();
    ::close(theirs);
    const MemoryRef memory{share(*create_memory("ram", page)), 0, page};
    const auto mapping = *function->map_dma(iova(0, page), memory, Access::read_write);
    const wire::DmaAccess access{0, 4};
    EXPECT_EQ(twin.call(Command::dma_read, {wire::bytes_of(access)}), 0);
    EXPECT_EQ(twin.answer().payload.size(), sizeof access + 4);

    std::promise<void> gone;
    function->on_disconnect([&] { gone.set_value(); });
    twin.close(); // one without the other is nothing
    gone.get_future().get();
    EXPECT_FALSE(pci::read32(*function, pci::Region::bar0, 0));
}

TEST_F(HostileServer, ASecondSocketThatDoesNotComeIsAProtocolError) {
    version_json_ = R"({"capabilities":{"twin_socket":{"supported":true,"fd_index":3}}})";
    EXPECT_EQ(connect().error().code(), Errc::protocol);
}

TEST_F(HostileServer, AFloodOfDmaIsNotStored) {
    struct Stuck : pci::DmaTarget {
        Result<> read(uint64_t, std::span<std::byte>) override {
            going.wait();
            return {};
        }
        Result<> write(uint64_t, std::span<const std::byte>) override { return {}; }
        std::promise<void> go;
        std::shared_future<void> going = go.get_future().share();
    };
    const auto function = *connect();
    const auto target = std::make_shared<Stuck>();
    const auto mapping = *function->map_dma(iova(0, page), target, Access::read_write);
    std::promise<void> gone;
    function->on_disconnect([&] { gone.set_value(); });
    const wire::DmaAccess read{0, 4};
    bool cut = false;
    for (int i = 0; i < 20'000 && !cut; ++i)
        cut = !peer().send(Command::dma_read, {wire::bytes_of(read)}, {}, wire::flags::no_reply * (i > 0));
    EXPECT_TRUE(cut);
    target->go.set_value();
    gone.get_future().get();
}

TEST_F(HostileServer, DescriptorsNobodyAskedForAreClosed) {
    const size_t before = testing::open_descriptors();
    {
        const auto function = *connect();
        answer(Command::region_read, [](RawPeer& peer, const Message& message) {
            std::span<const std::byte> payload = message.payload;
            const auto access = *wire::take<wire::RegionAccess>(payload);
            const std::vector<std::byte> data(access.count);
            const auto eventfd = *create_eventfd();
            peer.reply(message, {wire::bytes_of(access), data}, std::vector<int>(60, eventfd.get()));
        });
        for (int i = 0; i < 5; ++i)
            EXPECT_TRUE(pci::read32(*function, pci::Region::bar0, 0));
        // Neither with a command of its own.
        const auto eventfd = *create_eventfd();
        const wire::DmaAccess access{0, 4};
        peer().send(Command::dma_read, {wire::bytes_of(access)}, std::vector<int>(60, eventfd.get()),
                    wire::flags::no_reply);
        EXPECT_TRUE(pci::read32(*function, pci::Region::bar0, 0));
    }
    // The server's end of the connection and its listener are still there.
    EXPECT_TRUE(eventually([&] { return testing::open_descriptors() <= before + 1; }))
        << testing::open_descriptors() << " instead of " << before;
}

} // namespace
} // namespace lanepool::vfio_user

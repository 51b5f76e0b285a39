// SPDX-License-Identifier: Apache-2.0
//
// A hostile NVMe controller: its registers, identify data, log pages and completions come from the input, as
// far as the input goes; behind its end the controller behaves. The driver must come back from all of it,
// with the function quiet where the controller let it.
#include "nvme/fake_controller.h"
#include "nvme/io_commands.h"
#include "nvme/wipe.h"
#include "nvme/wipe_methods.h"

#include <cstdlib>

using namespace lanepool;
using namespace lanepool::nvme;

namespace {

class Input {
  public:
    Input(const uint8_t* data, size_t size) : data_(data, size) {}
    uint8_t byte() {
        if (data_.empty()) return 0;
        const uint8_t value = data_.front();
        data_ = data_.subspan(1);
        return value;
    }
    template <class T>
    T value() {
        uint64_t all = 0;
        for (size_t i = 0; i < sizeof(T); ++i)
            all = all << 8 | byte();
        return static_cast<T>(all);
    }
    // Changes some places of an object to what the input says.
    template <class T>
    void change(T& object) {
        auto bytes = std::as_writable_bytes(std::span(&object, 1));
        for (unsigned left = byte() % 16; left > 0; --left)
            bytes[value<uint16_t>() % bytes.size()] = std::byte{byte()};
    }

  private:
    std::span<const uint8_t> data_;
};

class HostileController : public FakeController {
  public:
    explicit HostileController(Input& input) : input_(input) {
        if (input.byte() & 1) cap_value = input.value<uint64_t>();
        input.change(controller);
        input.change(name_space);
        on_command = [this](uint16_t queue, const Command& command) { return misbehave(queue, command); };
        on_complete = [this](Completion& entry) {
            if (input_.byte() > 0xf0) input_.change(entry);
        };
    }

  private:
    std::optional<Answer> misbehave(uint16_t queue, const Command& command) {
        switch (input_.byte()) {
        case 0xff:
            return std::nullopt;
        case 0xfe:
            return Answer{Status(input_.value<uint16_t>()), input_.value<uint32_t>()};
        case 0xfd:
            gone = true;
            return std::nullopt;
        case 0xfc:
            fatal = true;
            break;
        case 0xfb:
            static_cast<void>(reset());
            return std::nullopt;
        case 0xfa:
            never_ready = true;
            break;
        case 0xf9: // a completion that nobody asked for
            post(queue, Completion{0, 0, 0, queue, input_.value<uint16_t>(), input_.value<uint16_t>()});
            break;
        case 0xf8: { // something else than what was asked for
            std::array<std::byte, 4096> page{};
            input_.change(page);
            const bool log_page = command.opcode == static_cast<uint8_t>(AdminOpcode::get_log_page);
            transfer(command, std::span(page).first(log_page ? 512 : 4096), true);
            return Answer{};
        }
        case 0xf7:
            return Answer{StatusCode::success, input_.value<uint32_t>()};
        default:
            break;
        }
        return answer(queue, command);
    }

    Input& input_;
};

void read_and_write(FakeController& controller, const io::Clock& clock) {
    auto driver = Driver::create(controller, clock, {.io_queues = 2, .interrupt_vectors = 2});
    if (!driver) return;
    Driver::QueueOptions options;
    options.depth = 8;
    auto queue = (*driver)->create_queue(options);
    auto memory = (*driver)->allocate(256 * 1024);
    if (!queue || !memory || (*driver)->namespaces().empty()) return;
    const auto& ns = (*driver)->namespaces()[0];
    for (uint64_t block : {uint64_t{0}, ns.blocks / 2, ns.blocks}) {
        for (auto command : {make_read(ns, block, 8, {*memory}), make_write(ns, block, 16, {*memory, 4096})})
            if (command)
                static_cast<void>((*queue)->submit(*command, std::chrono::seconds(1), [](const Outcome&) {}));
    }
    for (int i = 0; i < 200; ++i)
        static_cast<void>((*queue)->poll());
    static_cast<void>((*driver)->admin().smart_log());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    const SteppingClock clock(std::chrono::milliseconds(200));
    const uint8_t what = input.byte();
    HostileController controller(input);
    if (what & 1) {
        read_and_write(controller, clock);
    } else {
        WipeOptions options;
        options.deadline = clock.now() + std::chrono::seconds(20);
        options.random_samples = 8;
        const auto report = wipe(controller, clock, options);
        if (report && report->blocks_verified == 0) std::abort();
    }
    if (controller.dma_mappings() != 0) std::abort();
    return 0;
}

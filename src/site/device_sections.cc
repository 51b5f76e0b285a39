// SPDX-License-Identifier: Apache-2.0
//
// Classes of devices, and what is reserved of them.
#include "pool/ids.h"
#include "pool/input.h"
#include "site/draft.h"
#include "site/table_reader.h"
#include "site/words.h"

#include <array>
#include <charconv>
#include <fmt/format.h>

namespace lanepool::site {

namespace {

constexpr size_t most_selectors = 32; // of one class
constexpr int64_t most_devices = 4096 * 256;
// The years 1971 to 2200, in microseconds of Unix time.
constexpr int64_t earliest_us = int64_t{365} * 86400 * 1'000'000;
constexpr int64_t latest_us = int64_t{84'370} * 86400 * 1'000'000;

// An fdid as the pool prints it; empty: it is none.
std::string fdid_text(std::string_view text) {
    pool::Fdid fdid;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fdid.value, 16);
    return error == std::errc() && end == text.data() + text.size() && fdid ? fmt::format("{}", fdid)
                                                                            : std::string();
}

void read_device(TableReader& reader, pool::Selector& selector, Draft& draft) {
    const auto* value = reader.find("device", Value::Kind::text, "\"store1/nvme0\"");
    if (!value) return;
    const auto slash = value->text.find('/');
    if (slash != std::string::npos && pool::is_name(std::string_view(value->text).substr(0, slash)) &&
        pool::is_name(std::string_view(value->text).substr(slash + 1))) {
        selector.device = value->text;
        draft.references.push_back({Named::lender, value->text.substr(0, slash), value->at, reader.what()});
    } else if (slash == std::string::npos) {
        selector.device = fdid_text(value->text);
    }
    if (selector.device.empty())
        reader.problem(
            value->at,
            fmt::format("{}: device is {}; write HOST/NAME, or an fdid in hexadecimal such as \"80001\"",
                        reader.what(), in_quotes(value->text)));
}

pool::Selector read_selector(const Value& table, const std::string& what, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, what, problems);
    pool::Selector selector;
    read_device(reader, selector, draft);
    constexpr std::array kinds{"nvme", "gpu", "nic", "fpga", "other"};
    const size_t kind = reader.choice("kind", {kinds[0], kinds[1], kinds[2], kinds[3], kinds[4]});
    if (reader.has("kind")) selector.kind = kinds[kind];
    selector.host = reader.name("host", "\"store1\"");
    if (!selector.host.empty())
        draft.references.push_back({Named::lender, selector.host, reader.at("host"), what});
    selector.model = reader.text("model", pool::longest_text, "\"PM9A3\"");
    selector.vendor_id = static_cast<uint32_t>(reader.number("vendor_id", 1, 0xffff, 0));
    selector.device_id = static_cast<uint32_t>(reader.number("device_id", 1, 0xffff, 0));
    if (const auto* value = reader.find("least", Value::Kind::text, "\"1 TB\"")) {
        selector.least_capacity_bytes = parse_capacity_bytes(value->text).value_or(0);
        if (selector.least_capacity_bytes == 0)
            reader.problem(value->at,
                           fmt::format("{}: least is {}; write a capacity such as \"1 TB\" or \"512 GiB\"",
                                       what, in_quotes(value->text)));
    }
    reader.finish();
    const auto slash = selector.device.find('/');
    if (slash != std::string::npos && !selector.host.empty() &&
        selector.device.substr(0, slash) != selector.host)
        problems.add(reader.at("host"), fmt::format("{}: device '{}' is not at host '{}'; leave host out",
                                                    what, selector.device, selector.host));
    if (selector.empty() && problems.count() == before)
        problems.add(
            table.at,
            fmt::format(
                "{} has an empty selector, which selects no device at all; say what is meant, for example "
                "{{ kind = \"nvme\" }}",
                what));
    return selector;
}

void read_weekly(TableReader& reader, pool::Reservation& reservation) {
    const auto* value = reader.find("calendar", Value::Kind::text, "\"weekdays 18:00-06:00\"");
    int32_t offset_s = 0;
    if (const auto* text = reader.find("utc_offset", Value::Kind::text, "\"+01:00\"")) {
        const auto parsed = parse_utc_offset_s(text->text);
        if (!parsed)
            reader.problem(text->at,
                           fmt::format("{}: utc_offset is {}; write it from \"-12:00\" to \"+14:00\"",
                                       reader.what(), in_quotes(text->text)));
        if (!reader.has("calendar"))
            reader.problem(
                text->at,
                fmt::format("{}: utc_offset has no effect without a calendar; leave it out", reader.what()));
        offset_s = parsed.value_or(0);
    }
    if (!value) return;
    if (const auto times = parse_weekly_times(value->text))
        reservation.weekly = pool::Calendar{times->days, times->begin_s, times->length_s, offset_s};
    else
        reader.problem(
            value->at,
            fmt::format("{}: calendar is {}; write days and times such as \"weekdays 18:00-06:00\", "
                        "\"mon,wed 09:00-12:30\" or \"daily 00:00-24:00\"",
                        reader.what(), in_quotes(value->text)));
}

std::optional<int64_t> read_instant(TableReader& reader, std::string_view key) {
    const auto* value = reader.find(key, Value::Kind::instant, "2026-12-01T08:00:00Z");
    if (!value) return std::nullopt;
    if (value->unix_us >= earliest_us && value->unix_us < latest_us) return value->unix_us;
    reader.problem(value->at, fmt::format("{}: {} is out of range; write a time of the years 1971 to 2200",
                                          reader.what(), key));
    return std::nullopt;
}

void read_times(TableReader& reader, pool::Reservation& reservation) {
    read_weekly(reader, reservation);
    const auto from = read_instant(reader, "from");
    const auto until = read_instant(reader, "until");
    const bool once = reader.has("from") || reader.has("until");
    if (once && reader.has("calendar"))
        reader.problem(
            reader.at("calendar"),
            fmt::format("{} has both a calendar and from or until; write one of the two", reader.what()));
    if (!once && !reader.has("calendar"))
        reader.problem(
            reader.at(),
            fmt::format("{} does not say when; write calendar = \"weekdays 18:00-06:00\", or from and until",
                        reader.what()));
    if (once && !(reader.has("from") && reader.has("until")))
        reader.problem(reader.at(),
                       fmt::format("{} has only one of from and until; write both", reader.what()));
    if (!from || !until) return;
    if (*until <= *from)
        reader.problem(reader.at("until"),
                       fmt::format("{}: until is not later than from; write a later time", reader.what()));
    else
        reservation.once = pool::Interval{*from, *until};
}

} // namespace

void read_class(const Member& member, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    pool::DeviceClass device_class{member.key, {}};
    check_name(member.key, member.at, problems);
    const std::string what = fmt::format("class {}", in_quotes(member.key));
    constexpr std::string_view example = R"(any = [{ kind = "nvme", least = "1 TB" }])";
    if (member.value.kind == Value::Kind::table) {
        TableReader reader(member.value, what, problems);
        const auto selectors = reader.tables("any", most_selectors, example);
        for (const auto* selector : selectors)
            device_class.any_of.push_back(read_selector(*selector, what, draft, problems));
        if (selectors.empty() && problems.count() == before)
            problems.add(member.at,
                         fmt::format("{} has no selector, so no device is in it; write {}", what, example));
        reader.finish();
    } else {
        problems.add(member.value.at, fmt::format("{} is {}; write [class.NAME] and below it {}", what,
                                                  name(member.value.kind), example));
    }
    draft.site.classes.push_back(std::move(device_class));
    draft.classes.push_back({member.at, problems.count() == before});
}

void read_reservation(const Value& table, Draft& draft, Problems& problems) {
    const size_t before = problems.count();
    TableReader reader(table, "this reservation", problems);
    pool::Reservation reservation;
    reservation.name = reader.needed_name("name", "\"nightly\"");
    if (!reservation.name.empty()) reader.call_it(fmt::format("reservation '{}'", reservation.name));
    reservation.tenant = reader.needed_name("tenant", "\"research\"");
    if (!reservation.tenant.empty())
        draft.references.push_back({Named::tenant, reservation.tenant, reader.at("tenant"), reader.what()});
    reservation.device_class = reader.needed_name("class", "\"fast\"");
    if (!reservation.device_class.empty())
        draft.references.push_back(
            {Named::device_class, reservation.device_class, reader.at("class"), reader.what()});
    reservation.count = static_cast<uint32_t>(reader.number("count", 1, most_devices, 1));
    read_times(reader, reservation);
    reader.finish();
    draft.site.reservations.push_back(std::move(reservation));
    draft.reservations.push_back({reader.at(), problems.count() == before});
}

} // namespace lanepool::site

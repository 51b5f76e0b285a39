// SPDX-License-Identifier: Apache-2.0
#include "qualify/stored.h"

#include "io/replace_file.h"

namespace lanepool::qualify {

bool is_fit(Verdict verdict) { return verdict == Verdict::fit || verdict == Verdict::limits; }

Result<> store(const std::filesystem::path& state_folder, const std::string& name, const Report& report,
               AccessModel model, const Json& evidence) {
    if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos)
        return fail(Errc::invalid_argument, "'{}' is no name of a device", name);
    std::error_code error;
    if (!std::filesystem::is_directory(state_folder, error))
        return fail(Errc::not_found, "there is no folder {}: name the one of 'lanepool agent --state'",
                    state_folder.string());
    const auto folder = state_folder / "qualifications";
    std::filesystem::create_directory(folder, error);
    if (error) return fail(Errc::io, "cannot make {}: {}", folder.string(), error.message());
    Json json = evidence;
    auto& qualification = json["qualification"];
    qualification["verdict"] = qualification["result"];
    qualification["result"] = is_fit(report.verdict(model)) ? "fit" : "not_fit";
    return io::replace_file(folder / (name + ".json"), json.dump(2) + "\n");
}

} // namespace lanepool::qualify

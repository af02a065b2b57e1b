// The addresses of the agreement test: who speaks, what policies and routes are about.
#pragma once

#include <string>
#include <vector>

namespace culvert::test {

inline const std::vector<std::string> kV4 = {
    "10.1.0.9",     "10.1.0.20",   "10.1.7.7",   "10.2.0.7",     "10.2.0.8",     "10.2.9.9",
    "10.3.0.1",     "172.16.0.1",  "172.16.5.5", "172.17.0.3",   "192.0.2.5",    "10.1.0.77",
    "224.0.0.5",    "127.0.0.1",   "0.0.0.7",    "10.2.255.254", "198.51.100.2", "10.1.0.255",
    "198.51.100.0", "169.254.7.7", "10.9.0.9",   "10.9.0.77",    "10.8.0.9",     "0.0.0.0"};
inline const std::vector<std::string> kV6 = {"2001:db8:1::9",
                                             "2001:db8:1::20",
                                             "2001:db8:2::7",
                                             "2001:db8:2::1:0",
                                             "2001:db8:3::1",
                                             "2001:db8:3:1::1",
                                             "2001:db8:1::77",
                                             "ff02::5",
                                             "::1",
                                             "2001:db8:2:ffff::",
                                             "2001:db8:ff::2",
                                             "fe80::9",
                                             "2001:db8:9::9",
                                             "::"};
/// Of these, the addresses that no host has.
inline const std::vector<std::string> kNobody = {
    "224.0.0.5",    "127.0.0.1",   "0.0.0.7", "ff02::5", "::1", "10.1.0.255",
    "198.51.100.0", "169.254.7.7", "fe80::9", "0.0.0.0", "::"};
inline const std::vector<std::string> kOwn4 = {"10.1.0.1", "198.51.100.1", "10.9.0.1"};
inline const std::vector<std::string> kOwn6 = {"2001:db8:1::1", "2001:db8:ff::1"};
inline const std::vector<std::string> kSayable4 = {"10.1.0.9",   "10.1.0.20", "10.2.0.7",
                                                   "172.16.5.5", "10.1.0.77", "10.9.0.9"};
inline const std::vector<std::string> kSayable6 = {"2001:db8:1::9", "2001:db8:2::7",
                                                   "2001:db8:3:1::1"};
/// The ends of the tunnels, IPv4 and IPv6.
inline const std::vector<std::string> kHere = {"198.51.100.1", "2001:db8:ff::1"};
inline const std::vector<std::string> kThere = {"198.51.100.2", "2001:db8:ff::2"};
inline const std::vector<std::string> kNets4 = {"10.1.0.0/24",   "10.1.0.0/16", "10.2.0.0/16",
                                                "10.2.0.0/29",   "10.0.0.0/8",  "172.16.0.0/12",
                                                "172.16.5.5/32", "0.0.0.0/0",   "198.51.100.0/24"};
inline const std::vector<std::string> kNets6 = {
    "2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:2::/127", "2001:db8::/32", "::/0",
    "2001:db8:3::/48", "2001:db8:ff::/64"};
inline const std::vector<std::string> kRoutes = {
    "172.16.0.0/16",   "172.16.5.0/24",     "172.17.0.0/16", "10.3.0.0/16",
    "2001:db8:3::/48", "2001:db8:3:1::/64", "0.0.0.0/0",     "::/0"};

/// Whom a route may lead to.
inline const std::vector<std::string> kVias4 = {"198.51.100.2", "10.1.0.9", "10.9.0.9", "10.8.0.9",
                                                "10.7.0.9"};
inline const std::vector<std::string> kVias6 = {"2001:db8:ff::2", "2001:db8:1::9", "2001:db8:9::9",
                                                "2001:db8:8::9"};

}  // namespace culvert::test

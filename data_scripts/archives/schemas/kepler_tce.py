"""Columns of the threshold crossing events that the Kepler pipeline found, as the NASA Exoplanet Archive lists them.

Names, types and units: header of the archive's tables `tce` and `q1_q17_dr25_tce`; meaning:
https://exoplanetarchive.ipac.caltech.edu/docs/API_tce_columns.html.
"""

import pyarrow as pa

from data_scripts.archives.protocols.nexsci_units import nexsci_unit
from data_scripts.harness.archive import Column


__all__ = ["COLUMNS"]

# What these tables mean by words that stand for other quantities elsewhere.
RADII = {"earth": "earthRad", "solar": "solRad"}


def number(
    name: str,
    description: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    required: bool = False,
) -> Column:
    """A floating-point column; `unit` is the archive's text."""
    unit = RADII.get(unit, nexsci_unit(unit)) if unit else None
    return Column(name, pa.float64(), description, unit, required, minimum, maximum)


def whole(name: str, description: str, minimum: float | None = None, required: bool = False) -> Column:
    return Column(name, pa.int64(), description, required=required, minimum=minimum)


def text(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.string(), description, required=required)


def flag(name: str, description: str) -> Column:
    return Column(name, pa.bool_(), description)


COLUMNS = (
    number("ra", "Right ascension, J2000", "degrees", minimum=0, maximum=360, required=True),
    number("dec", "Declination, J2000", "degrees", minimum=-90, maximum=90, required=True),
    text("tce_delivname", "Delivery that the event is of", required=True),
    text("tce_datalink_dvr", "Path of the data validation report"),
    text("tce_datalink_dvs", "Path of the data validation summary"),
    whole("tce_nkoi", "Kepler objects of interest of the star"),
    whole("kepid", "Number in the Kepler Input Catalog", minimum=1, required=True),
    whole("tce_plnt_num", "Number of the event among the star's", minimum=1, required=True),
    whole("tce_num_transits", "Transits in the event", minimum=0),
    number("tce_max_sngle_ev", "Largest single event statistic"),
    number("tce_max_mult_ev", "Multiple event statistic", required=True),
    number("tce_fwm_sra_err", "Flux weighted centroid motion of source in RA, uncertainty"),
    number("tce_fwm_sra", "Flux weighted centroid motion of source in RA"),
    number("tce_fwm_sdec_err", "Flux weighted centroid motion of source in Dec, uncertainty"),
    number("tce_fwm_sdec", "Flux weighted centroid motion of source in Dec"),
    number("tce_fwm_srao_err", "Flux weighted centroid motion source offset in RA, uncertainty"),
    number("tce_fwm_srao", "Flux weighted centroid motion source offset in RA"),
    number("tce_fwm_sdeco_err", "Flux weighted centroid motion source offset in Dec, uncertainty"),
    number("tce_fwm_sdeco", "Flux weighted centroid motion source offset in Dec"),
    number("tce_fwm_prao_err", "Flux weighted centroid motion peak offset in RA, uncertainty"),
    number("tce_fwm_prao", "Flux weighted centroid motion peak offset in RA"),
    number("tce_fwm_pdeco_err", "Flux weighted centroid motion peak offset in Dec, uncertainty"),
    number("tce_fwm_pdeco", "Flux weighted centroid motion peak offset in Dec"),
    number("tce_fwm_stat", "Flux weighted centroid motion statistic"),
    number("tce_dicco_mdec_err", "Difference image control centroid single fit offset in Dec, uncertainty"),
    number("tce_dicco_mdec", "Difference image control centroid single fit offset in Dec"),
    number("tce_dicco_mra_err", "Difference image control centroid single fit offset in RA, uncertainty"),
    number("tce_dicco_mra", "Difference image control centroid single fit offset in RA"),
    number("tce_dicco_msky_err", "Difference image control centroid single fit offset in sky, uncertainty"),
    number("tce_dicco_msky", "Difference image control centroid single fit offset in sky"),
    number("tce_dikco_mdec_err", "Difference image KIC centroid single fit offset in Dec, uncertainty"),
    number("tce_dikco_mdec", "Difference image KIC centroid single fit offset in Dec"),
    number("tce_dikco_mra_err", "Difference image KIC centroid single fit offset in RA, uncertainty"),
    number("tce_dikco_mra", "Difference image KIC centroid single fit offset in RA"),
    number("tce_dikco_msky_err", "Difference image KIC centroid single fit offset in sky, uncertainty"),
    number("tce_dikco_msky", "Difference image KIC centroid single fit offset in sky"),
    number("tce_bin_oedp_stat", "Binary discrimination odd-even depth statistics"),
    flag("tce_full_conv", "Full convergence flag"),
    text("tce_limbdark_mod", "Limb darkening model name"),
    number("tce_ldm_coeff4", "Limb darkening coefficient 4"),
    number("tce_ldm_coeff3", "Limb darkening coefficient 3"),
    number("tce_ldm_coeff2", "Limb darkening coefficient 2"),
    number("tce_ldm_coeff1", "Limb darkening coefficient 1"),
    text("tce_trans_mod", "Transit model name"),
    number("tce_model_snr", "Model signal to noise ratio"),
    number("tce_model_dof", "Model degrees of freedom"),
    number("tce_model_chisq", "Model chi square"),
    number("tce_time0bk_err", "Time of the first transit, uncertainty", "days"),
    number("tce_time0bk", "Time of the first transit, BJD - 2454833", "days", required=True),
    number("tce_eccen_err", "Eccentricity, uncertainty"),
    number("tce_eccen", "Eccentricity", minimum=0, maximum=1),
    number("tce_longp_err", "Longitude of periastron, uncertainty", "deg"),
    number("tce_longp", "Longitude of periastron", "deg"),
    number("tce_prad_err", "Planet radius, uncertainty", "earth"),
    number("tce_prad", "Planet radius", "earth", minimum=0),
    number("tce_sma_err", "Semi-major axis, uncertainty", "AU"),
    number("tce_sma", "Semi-major axis", "AU", minimum=0),
    number("tce_impact_err", "Minimum impact parameter, uncertainty"),
    number("tce_impact", "Minimum impact parameter", minimum=0),
    number("tce_duration_err", "Transit duration, uncertainty", "hours"),
    number("tce_duration", "Transit duration", "hours", minimum=0),
    number("tce_ingress_err", "Transit ingress time, uncertainty", "hours"),
    number("tce_ingress", "Transit ingress time", "hours"),
    number("tce_depth_err", "Transit depth, uncertainty", "ppm"),
    number("tce_depth", "Transit depth", "ppm"),
    number("tce_period_err", "Transit period, uncertainty", "days"),
    number("tce_period", "Transit period", "days", minimum=0, required=True),
    number("tce_ror_err", "Ratio of the planet's radius to the star's, uncertainty"),
    number("tce_ror", "Ratio of the planet's radius to the star's"),
    number("tce_dor_err", "Ratio of the semi-major axis to the star's radius, uncertainty"),
    number("tce_dor", "Ratio of the semi-major axis to the star's radius"),
    number("tce_incl_err", "Orbital inclination, uncertainty", "deg"),
    number("tce_incl", "Orbital inclination", "deg", minimum=0, maximum=180),
    number("tce_eqt_err", "Equilibrium temperature, uncertainty", "K"),
    number("tce_eqt", "Equilibrium temperature", "K", minimum=0),
    number("tce_steff_err", "Effective temperature, uncertainty", "K"),
    number("tce_steff", "Effective temperature", "K", minimum=0),
    number("tce_slogg_err", "Decimal logarithm of the stellar surface gravity, uncertainty", "cm/s**2"),
    number("tce_slogg", "Decimal logarithm of the stellar surface gravity", "cm/s**2"),
    number("tce_smet_err", "Stellar metallicity, uncertainty", "dex"),
    number("tce_smet", "Stellar metallicity", "dex"),
    text("rowupdate", "Day of the last change"),
    number("tce_robstat", "Robust statistics of the candidate"),
    number("tce_dof2", "Degrees of freedom 2 of the candidate"),
    number("tce_dof1", "Degrees of freedom 1 of the candidate"),
    number("tce_chisq2", "Chi square 2 of the candidate"),
    number("tce_chisq1", "Chi square 1 of the candidate"),
    number("tce_mesmad", "Weak secondary: median absolute deviation of the multiple event statistic"),
    number("tce_minmes", "Weak secondary: least multiple event statistic"),
    number("tce_minmesd", "Weak secondary: phase of the least multiple event statistic", "days"),
    number("tce_maxmes", "Weak secondary: largest multiple event statistic"),
    number("tce_maxmesd", "Weak secondary: phase of the largest multiple event statistic", "days"),
    text("tce_quarters", "Quarters observed, one digit each"),
    text("tce_steff_prov", "Stellar effective temperature provenance"),
    text("tce_slogg_prov", "Stellar surface gravity provenance"),
    text("tce_smet_prov", "Stellar metallicity provenance"),
    text("tce_sradius_prov", "Stellar radius provenance"),
    number("tce_sradius_err", "Stellar radius, uncertainty", "solar"),
    number("tce_sradius", "Stellar radius", "solar", minimum=0),
    number("tce_rmesmad", "Ratio of the multiple event statistic to its median absolute deviation"),
    number("tce_rsnrmes", "Ratio of the model's signal to noise to the multiple event statistic"),
    number("tce_rminmes", "Ratio of the least to the largest multiple event statistic"),
    number("tce_time0_err", "Time of the first transit in BJD, uncertainty", "days"),
    number("tce_time0", "Time of the first transit, BJD", "days"),
    whole("tce_ioflag", "Interesting object flag"),
    number("boot_fap", "Bootstrap false alarm probability", minimum=0, maximum=1),
    number("boot_mesthresh", "Bootstrap MES threshold"),
    number("boot_mesmean", "Bootstrap mean of MES distribution"),
    number("boot_messtd", "Bootstrap standard deviation of MES distribution"),
    number("av_vf_pc", "Autovetter: vote fraction of planet candidate", "perc", minimum=0, maximum=100),
    number("av_vf_pc_err", "Autovetter: vote fraction of planet candidate, uncertainty", "perc"),
    number("av_vf_afp", "Autovetter: vote fraction of astrophysical false positive", "perc", minimum=0, maximum=100),
    number("av_vf_afp_err", "Autovetter: vote fraction of astrophysical false positive, uncertainty", "perc"),
    number("av_vf_ntp", "Autovetter: vote fraction of non-transiting phenomenon", "perc", minimum=0, maximum=100),
    number("av_vf_ntp_err", "Autovetter: vote fraction of non-transiting phenomenon, uncertainty", "perc"),
    number("av_pp_pc", "Autovetter: posterior probability of planet candidate", "perc", minimum=0, maximum=100),
    number(
        "av_pp_afp",
        "Autovetter: posterior probability of astrophysical false positive",
        "perc",
        minimum=0,
        maximum=100,
    ),
    number(
        "av_pp_ntp", "Autovetter: posterior probability of non-transiting phenomenon", "perc", minimum=0, maximum=100
    ),
    text("av_training_set", "Autovetter: label of the training set (PC, AFP, NTP, UNK)"),
    text("av_pred_class", "Autovetter: predicted class (PC, AFP, NTP)"),
    number("tce_chisqgofdof", "Goodness of fit, degrees of freedom"),
    number("tce_chisqgof", "Goodness of fit, chi-squared"),
    number("tce_insol_err", "Insolation flux, uncertainty", "Fearth"),
    number("tce_insol", "Insolation flux", "Fearth", minimum=0),
    number("tcet_period_err", "Trapezoidal fit: transit period, uncertainty", "days"),
    number("tcet_period", "Trapezoidal fit: transit period", "days", minimum=0),
    number("tcet_time0bk_err", "Trapezoidal fit: time of the first transit, uncertainty", "days"),
    number("tcet_time0bk", "Trapezoidal fit: time of the first transit, BJD - 2454833", "days"),
    number("tcet_time0_err", "Trapezoidal fit: time of the first transit in BJD, uncertainty", "days"),
    number("tcet_time0", "Trapezoidal fit: time of the first transit, BJD", "days"),
    number("tcet_duration_err", "Trapezoidal fit: transit duration, uncertainty", "hrs"),
    number("tcet_duration", "Trapezoidal fit: transit duration", "hrs", minimum=0),
    number("tcet_ingress_err", "Trapezoidal fit: transit ingress time, uncertainty", "hrs"),
    number("tcet_ingress", "Trapezoidal fit: transit ingress time", "hrs"),
    number("tcet_depth_err", "Trapezoidal fit: transit depth, uncertainty", "ppm"),
    number("tcet_depth", "Trapezoidal fit: transit depth", "ppm"),
    flag("tcet_full_conv", "Trapezoidal fit: full convergence flag"),
    number("tcet_model_chisq", "Trapezoidal fit: model chi square"),
    number("tcet_model_dof", "Trapezoidal fit: model degrees of freedom"),
    number("wst_robstat", "Weak secondary: robust statistics"),
    number("wst_depth", "Weak secondary: transit depth", "ppm"),
    number("wst_depth_err", "Weak secondary: transit depth, uncertainty", "ppm"),
    number("tce_mesmedian", "Weak secondary: median multiple event statistic"),
    number("tce_albedo", "Geometric planet albedo"),
    number("tce_albedo_err", "Geometric planet albedo, uncertainty"),
    number("tce_ptemp", "Planet effective temperature", "K"),
    number("tce_ptemp_err", "Planet effective temperature, uncertainty", "K"),
    number("tce_albedo_stat", "Albedo comparison statistic"),
    number("tce_ptemp_stat", "Temperature comparison statistic"),
    number("tce_cap_stat", "Core aperture correlation statistic"),
    number("tce_hap_stat", "Halo aperture correlation statistic"),
    whole("tce_rb_tpdur", "Test pulse duration"),
    whole("tce_rb_tcount0", "Transit counts for severity level = 0.0"),
    whole("tce_rb_tcount1", "Transit counts for severity level = 1.0"),
    whole("tce_rb_tcount2", "Transit counts for severity level = 2.0"),
    whole("tce_rb_tcount3", "Transit counts for severity level = 3.0"),
    whole("tce_rb_tcount4", "Transit counts for severity level = 4.0"),
    whole("tce_rogue_flag", "Rogue event flag: fewer than three transits with weight"),
)
